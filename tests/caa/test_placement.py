"""Placement: every rule by itself. The stories in `cases` show them at work."""

from collections.abc import Sequence

from clufs.caa.attributes import Placement, ResourceType
from clufs.caa.placement import Candidate, best, candidates
from clufs.caa.profile import Profile


class Scene:
    """A situation spelled out: who is up, what is ONLINE where, how many applications run where."""

    def __init__(
        self,
        up: str,
        online: str = "",
        load: dict[str, int] | None = None,
        drained: str = "",
    ) -> None:
        self._up = tuple(up.split())
        self._online = set(online.split())
        self._load = load or {}
        self._drained = drained.split()

    @property
    def up(self) -> Sequence[str]:
        return self._up

    def drained(self, member: str) -> bool:
        return member in self._drained

    def online(self, resource: str, member: str) -> bool:
        return f"{resource}@{member}" in self._online

    def applications(self, member: str, besides: str) -> int:
        return self._load.get(member, 0)


def application(
    required: str = "", optional: str = "", placement: str = "balanced", hosts: str = ""
) -> Profile:
    return Profile(
        "clock",
        ResourceType.APPLICATION,
        required=tuple(required.split()),
        optional=tuple(optional.split()),
        placement=Placement(placement),
        hosting_members=tuple(hosts.split()),
    )


def order(found: Sequence[Candidate]) -> list[str]:
    return [one.member for one in found if one.eligible]


def why(found: Sequence[Candidate], member: str) -> str:
    return next(one.reason for one in found if one.member == member)


def test_a_member_must_be_up_and_have_every_required_resource() -> None:
    scene = Scene("a b c", "net@a net@b tape@b")
    found = candidates(application("net tape"), scene)
    assert order(found) == ["b"]
    assert why(found, "a") == "required resource 'tape' is not ONLINE there"
    assert why(found, "c") == "required resource 'net' is not ONLINE there"
    assert [one.rank for one in found] == [1, 0, 0]
    assert order(candidates(application("net tape"), scene, granted=frozenset(["tape"]))) == [
        "a",
        "b",
    ]


def test_balanced_takes_the_member_with_the_fewest_applications() -> None:
    scene = Scene("a b c", load={"a": 2, "b": 1, "c": 1})
    found = candidates(application(), scene)
    assert order(found) == ["b", "c", "a"]
    assert why(found, "a") == "it runs 2 other applications"
    assert why(found, "b") == "it runs 1 other application"


def test_where_it_runs_is_preferred_among_equals() -> None:
    found = candidates(application(), Scene("a b"), where="b")
    assert order(found) == ["b", "a"]
    assert why(found, "b") == "it runs 0 other applications, it runs there already"


def test_favored_takes_the_list_in_order_and_falls_back_to_any() -> None:
    profile = application(placement="favored", hosts="c b x")
    found = candidates(profile, Scene("a b c"))
    assert order(found) == ["c", "b", "a"]
    assert why(found, "x") == "it is not up"
    assert why(found, "a") == "it is not in HOSTING_MEMBERS, of which one can"
    alone = candidates(profile, Scene("a d", load={"a": 1}))
    assert order(alone) == ["d", "a"]
    assert why(alone, "d") == "no hosting member can, it runs 0 other applications"


def test_restricted_never_leaves_the_list() -> None:
    profile = application(placement="restricted", hosts="b c")
    assert order(candidates(profile, Scene("a b c"))) == ["b", "c"]
    found = candidates(profile, Scene("a"))
    assert best(found) == ""
    assert why(found, "a") == "PLACEMENT is restricted and it is not in HOSTING_MEMBERS"


def test_the_number_of_optional_resources_comes_before_the_policy() -> None:
    scene = Scene("a b", "net@b tape@b other@a", load={"b": 9})
    assert best(candidates(application(optional="other net tape"), scene)) == "b"
    favored = application(optional="net", placement="favored", hosts="a b")
    found = candidates(favored, scene)
    assert order(found) == ["b", "a"]
    assert why(found, "b") == (
        "1 of 1 optional resources are ONLINE there (net), it is number 2 in HOSTING_MEMBERS"
    )


def test_among_equal_numbers_the_first_optional_resource_that_differs_decides() -> None:
    scene = Scene("a b c", "two@a three@a one@b three@b one@c two@c")
    assert order(candidates(application(optional="one two three"), scene)) == ["c", "b", "a"]


def test_a_drained_member_takes_nothing() -> None:
    found = candidates(application(), Scene("a b", drained="a"))
    assert order(found) == ["b"]
    assert why(found, "a") == "it is drained"
