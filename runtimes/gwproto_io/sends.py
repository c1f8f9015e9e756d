"""The commands that go to a client."""

from gwproto import Delegate, SendData, SendEnd, SendHead

Send = SendHead | SendData | SendEnd | Delegate
