"""The peers: everything that a run of them needs is there, without installing any."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import bench.peers.apps
from bench.peers.catalogue import PEERS, Peer
from bench.peers.comparison import ratios
from bench.peers.environments import PeerNotInstalledError, python_of, requirements
from bench.pictures import Pictures

APPS = Path(bench.peers.apps.__file__).parent


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
def test_every_peer_has_an_app_that_can_be_run(peer: Peer) -> None:
    source = (APPS / f"{peer.name}_app.py").read_text()
    ast.parse(source)
    assert 'if __name__ == "__main__":' in source
    assert peer.module == f"bench.peers.apps.{peer.name}_app"


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
def test_every_peer_has_exact_versions_and_no_address(peer: Peer) -> None:
    lines = requirements(peer.name).read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*( ;.*)?", line) for line in lines)
    assert peer.package in {line.partition("==")[0] for line in lines}


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
def test_every_core_is_used_by_every_candidate(peer: Peer) -> None:
    candidates = peer.candidates(4)
    assert {each["workers"] * each["threads"] for each in candidates} == {4}
    assert {each["workers"] for each in candidates} == {1, 4}
    assert len(peer.candidates(1)) == len(peer.batch_sizes)


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
def test_every_request_to_a_peer_has_a_picture_of_its_own(peer: Peer) -> None:
    pictures = Pictures()
    requests = peer.requests("127.0.0.1:1", pictures)
    assert pictures.jpeg(5) in requests(5)
    assert len({requests(number) for number in range(20)}) == 20


def test_a_peer_without_an_environment_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PeerNotInstalledError, match="install mosec"):
        python_of("mosec", tmp_path)


def test_ratios_are_the_engines_rate_over_each_other() -> None:
    rows = [{"name": "engine", "per_second": 30.0}, {"name": "x predict", "per_second": 10.0}]
    assert ratios(rows) == {"engine / x predict": 3.0}
