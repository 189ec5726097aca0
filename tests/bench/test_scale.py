"""What bench/scale.md says is what its script makes of the committed measurements, and the sums are right."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bench.balancing import latencies, num_overfull, quantile
from bench.capacity import Around, Engine, Front, Traffic, breaking_rates, million
from bench.scale import PAGE, Inputs, engines_text, gpu_text, load, main, measured, page, sharing_text
from server.settings import Settings

FRONT = Front(decode=0.004, serial=0.002)


def test_the_page_is_what_the_script_writes() -> None:
    assert PAGE.read_text() == page(Inputs(), measured()) + "\n", "python -m bench.scale"


def test_the_readme_says_the_same_figures() -> None:
    found = measured()
    section = (PAGE.parents[1] / "README.md").read_text().partition("\n## Past one machine\n")[2]
    text = " ".join(section.partition("\n## ")[0].split())
    rows = [row.split("|") for row in sharing_text(found).split("\n") if row.startswith("|")]
    p99 = {row[1].strip(): row[3].strip() for row in rows}
    engine = Engine(8 * found.per_core["yolov8n"], found.front)

    assert f"{found.per_core['yolov8n']:.1f} images a second and core with yolov8n" in text
    assert f"and {found.per_core['shapes-detect']:.0f} with the demo detector" in text
    assert f"70 % of its {engine.peak:.0f}, so {engine.count(1000) - 1} engines and one to spare" in text
    assert f"{p99['random']} ms where each request" in text and f"{p99['least']} ms where a proxy" in text
    small = Engine(4 * found.per_core["yolov8n"], found.front)
    assert f"4 cores and at most 20 engines, would end at {20 * small.rate:.0f}." in text
    assert f"240 by chance {num_overfull(240, 24, 0.7):.1f} of the 24 engines" in text
    assert (
        f"about {found.front.ceiling:.0f} requests/s (reckoned from its {1e3 * found.front.serial:.1f} ms"
        in text
    )


def test_the_front_is_measured_as_it_is_by_default_without_the_decoders_that_are_not_in_it() -> None:
    front = load("scale/pieces")

    assert Settings.model_fields["decode"].default == "process"
    assert measured().front.serial == front["whole_path"]["front_cpu_us"] / 1e6


def test_requests_under_way_are_reckoned_from_a_mean_as_littles_law_has_it() -> None:
    means = [turn["mean_stage_milliseconds"]["total"] / 1000 for turn in load("tail")["turns"]]

    assert min(means) <= measured().traffic.seconds <= max(means)


def test_connections_that_are_kept_overfill_engines_that_chance_gave_too_many() -> None:
    assert num_overfull(num_connections=2, num_engines=2, utilisation=0.9) == pytest.approx(0.5)
    assert num_overfull(num_connections=2, num_engines=2, utilisation=0.5) == 0.0
    drawn = random.Random(1)
    counts = [Counter(drawn.randrange(24) for _ in range(240)) for _ in range(400)]
    seen = sum(count * 0.7 > 10 for each in counts for count in each.values()) / len(counts)

    assert num_overfull(240, 24, 0.7) == pytest.approx(seen, rel=0.1)


def test_engines_are_counted_with_a_reserve_and_one_to_spare() -> None:
    engine = Engine(peak=100.0, front=FRONT, utilisation=0.5)

    assert engine.rate == 50.0 and not engine.is_held_by_front
    assert [engine.count(rate) for rate in (1, 50, 51, 1000)] == [2, 2, 3, 21]
    assert engine.count(1000, num_spare=0) == 20
    with pytest.raises(ValueError, match="positive"):
        engine.count(0)


def test_a_model_that_is_faster_than_its_front_changes_nothing() -> None:
    fast, faster = (Engine(peak, FRONT, 1.0) for peak in (501.0, 10_000.0))

    assert fast.rate == faster.rate == FRONT.ceiling == 500.0
    assert fast.is_held_by_front


def test_feeding_takes_decoding_and_the_rest_of_the_front() -> None:
    assert FRONT.cores_for(500.0) == pytest.approx(3.0)


def test_bits_are_eight_a_byte_and_requests_under_way_follow_littles_law() -> None:
    traffic = Traffic(request_bytes=125_000, reply_bytes=1250, seconds=0.2)

    assert traffic.inward(1000) == 1e9
    assert traffic.outward(1000) == 1e7
    assert traffic.under_way(1000) == pytest.approx(200)


def test_parts_break_in_the_order_of_their_rates() -> None:
    engine = Engine(peak=100.0, front=FRONT, utilisation=0.5)
    around = Around(
        proxy_bits=1e9,
        proxy_connections=1000,
        cluster_nodes=10,
        prometheus_series=4000,
        rollout_seconds=10,
    )
    rates = breaking_rates(
        engine,
        Traffic(125_000, 1000, 0.1),
        around,
        series=100,
        image_bytes=156_250_000,
        weights_bytes=62_500_000,
    )

    assert rates == pytest.approx(
        {
            "one engine": 50,
            "nodes of one cluster": 10 * 50,
            "network of one proxy": 500,
            "one registry of images, all engines at once": 8 * 50,
            "one source of weights, all engines at once": 20 * 50,
            "series of one Prometheus": 40 * 50,
            "connections of one proxy": 10_000,
        }
    )
    assert list(rates.values()) == sorted(rates.values())


def test_a_million_images_cost_what_so_many_units_take_for_them() -> None:
    assert million(num_units=36, rate=1000) == pytest.approx(10.0)


def test_one_engine_shared_by_any_way_is_the_same_queue() -> None:
    each = [
        latencies(way, num_engines=1, num_replicas=1, service=1.0, utilisation=0.5, num_requests=500, seed=3)[
            -1
        ]
        for way in ("turns", "least")
    ]

    assert each[0] == each[1] >= 1.0


def test_one_server_with_fixed_service_waits_as_long_as_theory_says() -> None:
    """M/D/1 at half load: the mean wait is half a service (Pollaczek and Khinchine)."""
    taken = latencies(
        "random", num_engines=1, num_replicas=1, service=1.0, utilisation=0.5, num_requests=40_000
    )

    assert sum(taken) / len(taken) == pytest.approx(1.5, abs=0.05)


def test_the_least_busy_engine_answers_sooner_than_a_random_one() -> None:
    p99 = {
        way: quantile(
            latencies(way, num_engines=8, num_replicas=2, service=0.1, utilisation=0.7, num_requests=4000), 0.99
        )
        for way in ("random", "least")
    }  # fmt: skip

    assert p99["least"] < 0.7 * p99["random"]


def test_another_way_of_sharing_is_refused() -> None:
    with pytest.raises(ValueError, match="random, turns, least"):
        latencies("dice", num_engines=1, num_replicas=1, service=1, utilisation=0.5, num_requests=1)


def test_a_gpu_that_nobody_measured_is_said_to_be_unknown_and_a_given_one_is_reckoned_with() -> None:
    found = measured()

    assert "No GPU was measured" in gpu_text(Inputs(), found)
    assert "A GPU that computes 100 images/s is planned with 70." in gpu_text(Inputs(gpu_rate=100.0), found)


def test_prices_are_inputs() -> None:
    found = measured()
    free, dear = (engines_text("yolov8n", Inputs(core_price=price), found) for price in (0.0, 1.0))

    assert "| 0.00 | 0 |" in free and free != dear


def test_it_prints_with_other_figures_and_leaves_the_page_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = PAGE.read_text()

    assert main(["--print", "--cores", "16", "--gpu-rate", "350"]) == 0
    assert "An engine of 16 cores" in capsys.readouterr().out
    assert PAGE.read_text() == before
