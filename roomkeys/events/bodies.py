"""The JSON bodies of events, as producers send them. (docs/contract.md, section 1)

Unknown fields are ignored. An array or an optional field may be `null` or absent, which means empty. Types are
strict: a number in place of a string is a wrong shape, and is never converted.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_TIMESTAMP = 253_402_300_799_999
"""The last millisecond of the year 9999: later dates cannot be stored."""

MAX_NAME = 1024
"""The longest room name, in characters. The name is copied into every membership and notice."""


def _null_is_empty(value: object) -> object:
    return [] if value is None else value


Text = Annotated[str, StringConstraints(max_length=MAX_NAME)]
OrgId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
Timestamp = Annotated[int, BeforeValidator(lambda value: 0 if value is None else value), Field(ge=0, le=MAX_TIMESTAMP)]
Texts = Annotated[list[str], BeforeValidator(_null_is_empty)]
OrgIds = Annotated[list[OrgId], BeforeValidator(_null_is_empty)]


class Body(BaseModel):
    """What the body of every event has. `roomId` is read and checked before, by `roomkeys.events.decode`."""

    model_config = ConfigDict(strict=True, extra="ignore")

    timestamp: Timestamp = 0


class CreateBody(Body):
    """`.create`. Of `channels` only the presence counts: the producer has expanded them into `users`."""

    name: Text | None = None
    users: Texts = []
    orgs: OrgIds = []
    channels: Annotated[list[Any], BeforeValidator(_null_is_empty)] = []
    resolved_users: list[str] | None = Field(None, alias="resolvedUsers")
    resolved_orgs: list[OrgId] | None = Field(None, alias="resolvedOrgs")
    requester: str = Field(alias="requesterAccount")


class History(BaseModel):
    """Whether joiners see the messages from before they joined."""

    model_config = ConfigDict(strict=True, extra="ignore")

    mode: str | None = None


class AddBody(Body):
    """`.member.add`."""

    users: Texts = []
    orgs: OrgIds = []
    history: History | None = None
    requester: str = Field(alias="requesterAccount")


class RemoveBody(Body):
    """`.member.remove`: one account, several, or an org."""

    requester: str
    account: str | None = None
    accounts: Texts = []
    org: str | None = Field(None, alias="orgId", max_length=MAX_NAME)


class RotateBody(Body):
    """`.key.rotate`."""

    requester: str
