"""Replays: programs that repeat a violation, and the little machine that they run on."""

import random
import runpy
import subprocess
import sys

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from check.mistaken import ATS, FORCED, MISTAKES, PAGE, TWO, Mistake, index
from hitless.check import check
from hitless.check.replay import Outcome, Replay, Scene, configured, resolve
from hitless.check.replay.scene import parse_steps, table_as_fill
from hitless.check.stage import Setting, Stage, mutated
from hitless.check.story import find_script, tell
from hitless.check.story.program import program
from hitless.errors import BadInput
from hitless.guest_memfd.guest import GUEST, HOST
from hitless.memory import Arena
from hitless.plan import Invalidate, Store, Wait, format_step
from stand import G, K, M, registry

ALL = [*MISTAKES, FORCED]


def names(mistake: Mistake) -> str:
    """What a test's case is called."""
    return mistake.name


# -- programs


@pytest.mark.parametrize("mistake", ALL, ids=names)
def test_a_program_replays_every_violation(mistake, tmp_path, capsys):
    """What is written for a violation runs by itself, tells its story, and ends in what the rule forbids."""
    with mistake.subjects() as (_, spoilt):
        violation = mistake.violation(spoilt)
        story = tell(spoilt, violation)
    path = tmp_path / "replay.py"
    path.write_text(story.program, encoding="utf-8")
    runpy.run_path(str(path))
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"{mistake.rule}: {violation.what}"
    told = [line for line in out.splitlines()[:-1] if line not in story.lines]
    assert told == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=names)
def test_a_program_fails_on_the_right_plan(mistake, tmp_path):
    """With the plan mended, the same requests at the same moments do not end in what the rule forbids."""
    with mistake.subjects() as (right, spoilt):
        script = find_script(spoilt, mistake.violation(spoilt))
        if script.until == len(spoilt.steps):
            script = evolve(script, until=len(right.steps))
        text = program(script, right.steps, [], head="head", origin="origin")
    path = tmp_path / "replay.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((AssertionError, BadInput, KeyError)):
        runpy.run_path(str(path))


def test_a_program_is_a_process_of_its_own(tmp_path):
    """It needs nothing but the installed hitless, and says by its status whether the violation happened."""
    with MISTAKES[0].subjects() as (_, spoilt):
        text = tell(spoilt, MISTAKES[0].violation(spoilt)).program
    for name, content, status in (("right.py", text, 0), ("wrong.py", text.replace("assert ", "assert not ", 1), 1)):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        ended = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ended.returncode == status, ended.stderr


def test_features_of_the_vendor_stand_in_the_program(tmp_path):
    """Those that differ from the defaults; a configuration's vendor is named by its file and domain instead."""
    mistake = next(each for each in MISTAKES if each.features)
    with mistake.subjects() as (_, spoilt):
        violation = mistake.violation(spoilt)
        assert "resolve('intel', 'intel/second-stage', {'coherent': False})" in tell(spoilt, violation).program
        story = tell(spoilt, violation, vendor="configured('one.toml', 'second')")
    assert "import Outcome, Replay, configured" in story.program
    path = tmp_path / "one.toml"
    path.write_text(
        '[guest]\nmemory = "1G"\n[[domain]]\nvendor = "amd"\n'
        '[[domain]]\nname = "second"\nvendor = "intel"\nfeatures = { coherent = false }\n'
    )
    found = configured(str(path), "second")
    assert (found.name, found.features.coherent) == ("intel", False)
    with pytest.raises(BadInput, match="no domain 'third'"):
        configured(str(path), "third")
    assert resolve("amd").page_format.name == "amd/v1"


# -- the search


@given(st.integers(0, 1 << 32))
def test_every_violation_of_a_random_mistake_is_replayed(seed):
    """Whatever the checker says may happen to a request is made to happen, by other code."""
    rng = random.Random(seed)
    name = rng.choice(("amd", "intel", "arm_smmu"))
    setting = Setting(
        rng.choice(("separate", "in-place")),
        units=rng.choice((ATS.units, TWO.units, Setting().units)),
        hunk_lg2=rng.choice((21, 30)),
        merge=rng.choice(("never", "at_once")),
    )
    with Stage.open(registry(name).resolve(name), setting) as stage:
        if rng.random() < 0.7:
            stage.convert([rng.choice([PAGE, (G, G + 2 * M)])], HOST)
        owner = GUEST if stage.guest.owner(G) == HOST else HOST
        (right,) = stage.plans([PAGE], owner)
        steps = list(right.steps)
        for _ in range(min(rng.choice((1, 1, 2)), len(steps))):
            at = rng.randrange(len(steps))
            if rng.random() < 0.5:
                del steps[at]
            else:
                steps.insert(max(at + rng.choice((-2, -1, 1, 2)), 0), steps.pop(at))
        spoilt = mutated(right, steps)
        for violation in check(spoilt).shortest:
            assert find_script(spoilt, violation) is not None, violation


# -- the machine


def replay_of(name: str, setting: Setting | None = None, features: dict[str, object] | None = None):
    """A stage with a shared page, and the scene and plan of making it private."""
    stage = Stage.open(registry(name).resolve(name, features=features or {}), setting or Setting())
    opened = stage.__enter__()
    opened.share(G)
    (subject,) = opened.plans([PAGE], GUEST)
    made = Scene.of(subject, [G]), list(subject.steps)
    stage.__exit__(None, None, None)
    return made


def test_a_scene_stands_without_its_stage():
    """Tables and owners are taken over: what was mapped is mapped, though the guest is gone."""
    scene, steps = replay_of("amd")
    with Replay.of(scene, steps) as replay:
        first = replay.walk(G)
        assert not first.fault
        assert replay.leaf(G).oa == first.pa
        assert replay.owners.owner(first.pa) == HOST
        assert replay.walk(G + 4 * K).fault == "owner"


def test_hits_need_a_walk_and_end_with_the_wait():
    """Nothing is held at first; a walk caches; the command takes it away when its wait completes, not before."""
    scene, steps = replay_of("intel")
    command, wait = index(steps, Invalidate), index(steps, Wait)
    with Replay.of(scene, steps) as replay:
        assert replay.hits(G) == []
        seen = replay.walk(G)
        assert replay.hits(G, write=True) == [seen]
        replay.run(command + 1)
        assert replay.outstanding() == ["iommu0"]
        assert replay.hits(G) == [seen]
        replay.run(wait + 1)
        assert replay.hits(G) == []
        assert replay.outstanding() == []


def test_a_walk_lets_earlier_commands_take_effect_unless_it_overtakes_them():
    """A command that was submitted may have done its work before the next walk."""
    scene, steps = replay_of("intel")
    for overtakes, held in ((False, 0), (True, 1)):
        with Replay.of(scene, steps) as replay:
            replay.walk(G)
            replay.run(index(steps, Invalidate) + 1)
            replay.walk(G + 4 * K, overtakes=overtakes)
            assert len(replay.hits(G)) == held


def test_older_words_are_read_only_until_they_settle():
    """Between a store and the barrier behind it both words are readable, and no third one at any time."""
    scene, steps = replay_of("intel")
    store = index(steps, Store)
    step = steps[store][1]
    older = {step.pa: step.expected}
    with Replay.of(scene, steps) as replay:
        seen = replay.walk(G)
        replay.run(store + 1)
        assert list(replay.readings(G)) == [{}, older]
        assert replay.walk(G, older=older) == seen
        assert replay.walk(G).fault == "not-present"
        with pytest.raises(BadInput, match="no walker can read"):
            replay.walk(G, older={step.pa: 0x1234})
        replay.run(store + 2)
        assert list(replay.readings(G)) == [{}]
        with pytest.raises(BadInput):
            replay.walk(G, older=older)


def test_a_walker_that_does_not_snoop_needs_a_clean():
    """There a barrier alone settles nothing; the story says so."""
    mistake = next(each for each in MISTAKES if each.name == "no clean")
    with mistake.subjects() as (right, spoilt):
        store = index(right.steps, Store)
        for subject, choices in ((right, 1), (spoilt, 2)):
            with Replay.of(Scene.of(subject, [G]), subject.steps) as replay:
                replay.run(store + 2 + (subject is right))
                assert len(list(replay.readings(G))) == choices


def test_requests_in_flight_end_where_the_wait_drains_them():
    """A request that used the old translation completes late, until a wait that drains."""
    for features, late in (({}, 0), ({"drain": False}, 1)):
        scene, steps = replay_of("intel", features=features)
        with Replay.of(scene, steps) as replay:
            seen = replay.walk(G)
            replay.run(index(steps, Wait))
            assert replay.late(G) == [seen]
            replay.run(index(steps, Wait) + 1)
            assert replay.late(G) == [seen] * late


def test_a_device_asks_its_unit_again():
    """Without a wait between, an ATC gets back from the TLB what it has just dropped; with it, it does not (Arm)."""
    scene, steps = replay_of("arm_smmu", ATS)
    with Replay.of(scene, steps) as replay:
        seen = replay.walk(G, device=7)
        assert replay.hits(G, device=7) == [seen]
        replay.run(index(steps, Wait, -1) + 1)
        assert replay.hits(G, device=7) == []
    del steps[index(steps, Wait)]
    with Replay.of(scene, steps) as replay:
        seen = replay.walk(G, device=7)
        replay.run(index(steps, Wait) + 1)
        assert replay.hits(G, device=7) == [seen]


def test_pieces_are_those_that_the_vendor_declares():
    """Intel may cache a leaf as 4K pieces; AMD does not."""
    scene, steps = replay_of("intel", Setting(hunk_lg2=21))
    with Replay.of(scene, steps) as replay, pytest.raises(BadInput, match="not cached as pieces"):
        replay.walk(G, piece=12)  # it is no larger
    vendor = registry("intel").resolve("intel")
    with Stage.open(vendor, Setting(hunk_lg2=21)) as stage:
        stage.share(G, 2 * M)
        (subject,) = stage.plans([PAGE], GUEST)
        with Replay.of(Scene.of(subject, [G]), subject.steps) as replay:
            replay.walk(G, piece=12)
            assert [(leaf.size_lg2, leaf.leaf_lg2) for leaf in replay.cached(G)] == [(12, 21)]


def test_unknown_places_are_named():
    """A request of a unit, tag or device that is not there says which there are."""
    scene, steps = replay_of("amd", TWO)
    with Replay.of(scene, steps) as replay:
        for place in ({"unit": "iommu5"}, {"tag": 9}, {"device": 9}, {"unit": "iommu1", "device": 8}):
            with pytest.raises(BadInput, match="there is no unit") as error:
                replay.walk(G, **place)
            assert "('iommu1', 2, (9,))" in str(error.value)
        assert not replay.walk(G, unit="iommu1", device=9).fault
        with pytest.raises(BadInput, match="holds no pointer"):
            replay.walk(G, table=0x1000)


def test_a_race_is_noted_and_the_replay_goes_on():
    """A store that finds another word would stop an executor; here the word is stored, and the step is kept."""
    scene, steps = replay_of("intel")
    store = index(steps, Store)
    steps[store] = steps[store][0], evolve(steps[store][1], expected=0x1234)
    with Replay.of(scene, steps) as replay:
        replay.run()
        assert replay.raced == [store]
        assert replay.walk(G).fault == "not-present"


def test_only_chosen_steps_are_told():
    """``tell`` says which; requests are always told; ``lines`` keeps all."""
    scene, steps = replay_of("intel")
    told: list[str] = []
    with Replay.of(scene, steps, tell=[1], say=told.append) as replay:
        replay.walk(G)
        replay.run()
        assert len(replay.lines) > len(told)
        assert {line.step for line in replay.lines if str(line) in told} == {None, 1}


# -- texts


@given(st.lists(st.sampled_from([0, 0, 1, 5, 6, 7, 8, (1 << 64) - 1]), min_size=8, max_size=8), st.integers(0, 3))
def test_a_table_is_written_as_the_fill_that_makes_it(words, doubled):
    """Its runs and single words, put into empty memory, give the same table."""
    words = (words * 8)[: 8 << doubled]
    with Arena(0x10000, 1 << 12) as memory:
        for number, word in enumerate(words):
            memory.store(0x10000 + 8 * number, word)
        fill = table_as_fill(memory, 0x10000, 6 + doubled)
    found = {}
    for run in fill.runs:
        found.update({run.pa + 8 * i: (run.first + i * run.increment) % (1 << 64) for i in range(run.entries)})
    assert not set(found) & {pa for pa, _ in fill.overrides}
    found.update(fill.overrides)
    assert [found.get(0x10000 + 8 * number, 0) for number in range(len(words))] == words


def test_steps_keep_their_order_in_a_text():
    """A section that comes twice is read as it was written, unlike in a plan."""
    _, steps = replay_of("amd")
    mixed = [*steps[3:], *steps[:3]]
    text = "".join(f"[{section}]\n{format_step(step)}\n" for section, step in mixed)
    assert parse_steps(text) == mixed
    assert parse_steps("") == []


def test_outcomes_read_as_violations_say_them():
    """``reached`` an address, or a ``fault`` of a kind; and as a program writes them."""
    assert Outcome(0x1000, 3).text == "reached 0x1000"
    assert Outcome(fault="owner").text == "fault owner"
    assert eval(str(Outcome(0x1000, 3))) == Outcome(0x1000, 3)  # noqa: S307 - it is what is tested
    assert eval(str(Outcome(fault="owner"))) == Outcome(fault="owner")  # noqa: S307


def test_what_no_request_shows_has_no_program():
    """A third party's rule that is no outcome of a request is told, without a program."""
    mistake = MISTAKES[0]
    with mistake.subjects() as (_, spoilt):
        violation = evolve(mistake.violation(spoilt), rule="acme.X1")
        assert find_script(spoilt, violation) is None
        story = tell(spoilt, violation)
    assert story.program == ""
    assert "acme.X1 is broken" in str(story)
