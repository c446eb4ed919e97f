"""The verdicts, and which of them are proper for a case."""

from __future__ import annotations

from dataclasses import dataclass, replace

ACCEPTED = "accepted"
REFUSED = "refused"
NOT_APPLICABLE = "n/a"  # the library has no such arrays, or does not ask for such structs
ACCEPTED_HOSTILE = "accepted hostile"  # where the rule is to refuse
REFUSED_LEGAL = "refused legal"  # where the rule is to accept
WRONG_VALUES = "wrong values"
WRONG_STRUCT = "wrong struct"  # an exported struct or capsule that breaks a rule
WRONG_ERROR = "wrong error"
FREED_EARLY = "freed early"
LEAKED = "leaked"
DOUBLE_FREED = "double-freed"
CRASHED = "crashed"
HUNG = "hung"

PROPER = (ACCEPTED, REFUSED, NOT_APPLICABLE)
BAD = (
    ACCEPTED_HOSTILE,
    REFUSED_LEGAL,
    WRONG_VALUES,
    WRONG_STRUCT,
    WRONG_ERROR,
    FREED_EARLY,
    LEAKED,
    DOUBLE_FREED,
    CRASHED,
    HUNG,
)
VERDICTS = PROPER + BAD
MEANINGS = {
    ACCEPTED: "taken (or exported), values right, deleter called once",
    REFUSED: "an exception; the struct went back to its producer, deleter called once",
    NOT_APPLICABLE: "the library has no such arrays, or does not ask for such structs",
    ACCEPTED_HOSTILE: "taken, where the rule is to refuse",
    REFUSED_LEGAL: "an exception, where the rule is to accept",
    WRONG_VALUES: "taken, with other elements or another shape than the struct says",
    WRONG_STRUCT: "an exported struct or capsule that breaks a rule",
    WRONG_ERROR: "SystemError, an exception that no `except Exception` catches, or not the class "
    "that the rule names",
    FREED_EARLY: "the deleter was called while the result still reads the memory",
    LEAKED: "the deleter was never called",
    DOUBLE_FREED: "the deleter was called twice",
    CRASHED: "the process died; the signal is named",
    HUNG: "no answer within the time limit",
}


@dataclass(frozen=True)
class Outcome:
    """A verdict with details."""

    verdict: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.detail}" if self.detail else self.verdict


@dataclass(frozen=True)
class Result:
    """The outcome of one case for one library."""

    library: str
    case: str
    outcome: Outcome
    known: bool = False

    @property
    def bad(self) -> bool:
        """Whether the outcome is a fault, known or not."""
        return self.outcome.verdict in BAD

    @property
    def failed(self) -> bool:
        """Whether the outcome is a fault that is not listed as known."""
        return self.bad and not self.known

    def as_known(self) -> Result:
        """The same fault, listed as known."""
        return replace(self, known=True)
