import pytest

torch = pytest.importorskip("torch")

from models.demo.muon import Muon, orthogonal  # noqa: E402


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 24, 8), (2, 8, 24)])
def test_singular_values_become_about_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.min() > 0.3 and values.max() < 1.4


def test_the_size_of_the_gradient_does_not_matter() -> None:
    ends = []
    for scale in (1.0, 1000.0):
        torch.manual_seed(1)
        weight = torch.nn.Parameter(torch.randn(6, 4))
        weight.grad = torch.randn(6, 4) * scale
        Muon([weight], weight_decay=0.0).step(0.1)
        ends.append(weight.detach())
    assert torch.allclose(*ends, atol=1e-5)


def test_it_descends() -> None:
    torch.manual_seed(1)
    goal, weight = torch.randn(8, 8), torch.nn.Parameter(torch.zeros(8, 8))
    optimiser = Muon([weight], weight_decay=0.0)
    before = float((weight - goal).square().mean().detach())
    for step in range(200):
        weight.grad = (weight - goal).detach()
        optimiser.step(0.1 * (1 - step / 200))
    assert float((weight - goal).square().mean().detach()) < 0.05 * before


def test_it_goes_on_from_its_state() -> None:
    torch.manual_seed(1)
    start, gradients = torch.randn(4, 4), torch.randn(3, 4, 4)
    whole, halves = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    first = Muon([whole], weight_decay=0.1)
    second = Muon([halves], weight_decay=0.1)
    for index, gradient in enumerate(gradients):
        whole.grad = halves.grad = gradient
        first.step(0.1)
        if index == 1:
            state, second = second.state(), Muon([halves], weight_decay=0.1)
            second.restore(state)
        second.step(0.1)
    assert torch.equal(whole.detach(), halves.detach())


def test_a_parameter_without_a_gradient_is_an_error() -> None:
    with pytest.raises(ValueError, match="no gradient"):
        Muon([torch.nn.Parameter(torch.zeros(2, 2))], weight_decay=0.0).step(0.1)
