"""AWS credentials of this process, and how long they live: a presigned URL dies with the credentials that signed it.

obstore would find the same ones, but does not say when they end. They are looked for as in Amazon's SDKs: the variables
AWS_ACCESS_KEY_ID ..., a web identity (Kubernetes), a container's endpoint (ECS, EKS Pod Identity), the machine's role (EC2).
Files in ~/.aws are not read. Nothing of a credential is ever part of a message.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from tunerd.audio.object_faults import FaultKind, ObjectFault
from tunerd.clock import Clock
from tunerd.record import record

SHORTEST_SESSION_S: Final = 15 * 60.0
"""The least that AWS gives a session: what is assumed of a session token whose end nothing states."""
_ASK_AGAIN_S: Final = 60.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0, sock_connect=2.0)
_CONTAINER_HOST: Final = "http://169.254.170.2"
_MACHINE_HOST: Final = "http://169.254.169.254"
_TAG: Final = r"<{0}>([^<]+)</{0}>"


@record
class AwsCredentials:
    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    """Unix seconds; None: they do not end."""


class AwsCredentialChain:
    """`get` gives the credentials of this moment: kept for half of their life, then asked for again."""

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._environ = environ
        self._clock = clock
        self._kept: AwsCredentials | None = None
        self._ask_at = 0.0

    async def get(self) -> AwsCredentials:
        """Raises ObjectFault: there are none, or who gives them refuses or cannot be reached."""
        now = self._clock.now()
        if self._kept is None or now >= self._ask_at:
            self._kept = await self._found()
            left = float("inf") if self._kept.expires_at is None else self._kept.expires_at - now
            self._ask_at = now + max(left / 2, _ASK_AGAIN_S)
        return self._kept

    async def _found(self) -> AwsCredentials:
        environ = self._environ
        if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
            return self._of_variables()
        if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN"):
            return await _asked("the web identity (AWS_WEB_IDENTITY_TOKEN_FILE)", self._of_web_identity)
        if environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
            return await _asked("the container's credentials endpoint", self._of_container)
        if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
            return await _asked("the machine's metadata service", self._of_machine, none_is_missing=True)
        raise _none()

    def _of_variables(self) -> AwsCredentials:
        environ = self._environ
        token = environ.get("AWS_SESSION_TOKEN") or None
        expires_at = None
        if token is not None:
            try:
                expires_at = _instant(environ.get("AWS_CREDENTIAL_EXPIRATION") or "")
            except ValueError:
                expires_at = self._clock.now() + SHORTEST_SESSION_S
        return AwsCredentials(
            key_id=environ["AWS_ACCESS_KEY_ID"], secret=environ["AWS_SECRET_ACCESS_KEY"], token=token, expires_at=expires_at
        )

    async def _of_web_identity(self) -> AwsCredentials:
        environ = self._environ
        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        own = environ.get("AWS_ENDPOINT_URL_STS") or environ.get("AWS_STS_ENDPOINT")
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": environ["AWS_ROLE_ARN"],
            "RoleSessionName": environ.get("AWS_ROLE_SESSION_NAME") or "tunerd",
            "WebIdentityToken": _token_in(environ["AWS_WEB_IDENTITY_TOKEN_FILE"]),
        }
        text = await _fetch("POST", own or f"https://sts.{region}.amazonaws.com/", form=form, by_proxy=True)
        return _of_answer({name: found[1] for name in _IN_XML if (found := re.search(_TAG.format(name), text))})

    async def _of_container(self) -> AwsCredentials:
        environ, headers = self._environ, {}
        relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        url = f"{_CONTAINER_HOST}{relative}" if relative else environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        if path := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            headers["Authorization"] = _token_in(path)
        elif token := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"):
            headers["Authorization"] = token
        return _of_answer(await _fetch_json(url, headers))

    async def _of_machine(self) -> AwsCredentials:
        host = (self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _MACHINE_HOST).rstrip("/")
        ask = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
        headers = {"X-aws-ec2-metadata-token": await _fetch("PUT", f"{host}/latest/api/token", ask)}
        roles = f"{host}/latest/meta-data/iam/security-credentials/"
        role = (await _fetch("GET", roles, headers)).splitlines()
        return _of_answer(await _fetch_json(roles + (role[0] if role else ""), headers))


_IN_XML: Final = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")


async def _asked(where: str, ask: Callable[[], Awaitable[AwsCredentials]], *, none_is_missing: bool = False) -> AwsCredentials:
    """What `ask` gives; whatever it meets becomes one sentence that says where the credentials should have come from."""
    try:
        return await ask()
    except _Answered as error:
        if none_is_missing:
            raise _none() from error
        said = f"{where} answered {error.status}" + (f" ({error.code})" if error.code else "")
        kind = FaultKind.CREDENTIALS if error.status < 500 else FaultKind.NETWORK
        raise ObjectFault(kind, f"no AWS credentials: {said}; check the role and who may take it") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        if none_is_missing:
            raise _none() from error
        raise ObjectFault(FaultKind.NETWORK, f"no AWS credentials: {where} cannot be reached") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ObjectFault(FaultKind.CREDENTIALS, f"no AWS credentials: the token file of {where} cannot be read") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ObjectFault(FaultKind.CREDENTIALS, f"no AWS credentials: {where} gave an answer without them") from error


class _Answered(Exception):
    """An answer that is no 2xx."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status)
        self.status, self.code = status, code


def _token_in(path: str) -> str:
    """The platform renews the file: it is read each time. A small file in memory, so it is read in the loop."""
    return Path(path).read_text().strip()


def _none() -> ObjectFault:
    say = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine, container or pod a role"
    return ObjectFault(FaultKind.CREDENTIALS, f"no AWS credentials: {say}")


async def _fetch(
    method: str, url: str, headers: Mapping[str, str] | None = None, *, form: Mapping[str, str] | None = None,
    by_proxy: bool = False,
) -> str:  # fmt: skip
    """The text of a 2xx answer. Only STS is asked through a proxy: the other hosts are this machine's own."""
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=by_proxy) as session,
        session.request(method, url, headers=headers, data=form, allow_redirects=False) as response,
    ):
        text = await response.text()
        if not 200 <= response.status < 300:
            code = re.search(_TAG.format("Code"), text)
            raise _Answered(response.status, code[1] if code and code[1].isalnum() else "")
        return text


async def _fetch_json(url: str, headers: Mapping[str, str]) -> Mapping[str, Any]:
    found = orjson.loads(await _fetch("GET", url, headers))
    if not isinstance(found, dict):
        raise TypeError
    return found


def _of_answer(answer: Mapping[str, Any]) -> AwsCredentials:
    """Raises KeyError, TypeError or ValueError where it lacks something."""
    return AwsCredentials(
        key_id=str(answer["AccessKeyId"]),
        secret=str(answer["SecretAccessKey"]),
        token=str(answer["SessionToken"] if "SessionToken" in answer else answer["Token"]),
        expires_at=_instant(answer["Expiration"]),
    )


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
