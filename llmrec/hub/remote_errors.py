"""Translation of the Hub's errors into messages with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from llmrec.errors import BundleError

# The first is the error of the HTTP library that this version of the client uses.
UNREACHED: tuple[type[Any], ...] = (HfHubHTTPError.__mro__[1], ConnectionError, LocalEntryNotFoundError)
FAILURES: tuple[type[Any], ...] = (*UNREACHED, OSError, ValueError, RuntimeError)
LOG_IN = "log in with `hf auth login`, set HF_TOKEN or give token="


@contextmanager
def translate_hub_errors(repo_id: str, what: str) -> Iterator[None]:
    """Raise BundleError with a remedy for errors of the Hub inside.

    Args:
        repo_id: OWNER/NAME, which starts the message.
        what: Description of the failure, such as "cannot be downloaded".

    Raises:
        BundleError: If the Hub refuses or cannot be reached.
    """
    try:
        yield
    except BundleError:
        raise
    except HFValidationError as error:
        raise BundleError(f"{repo_id}: {_get_first_line(error)}") from error
    except FAILURES as error:
        raise BundleError(f"{repo_id}: {what}. {_suggest_remedy(error)}") from error


def _suggest_remedy(error: BaseException) -> str:
    chain = list(_iterate_causes(error))
    answer = next((one for one in chain if isinstance(one, HfHubHTTPError)), None)
    if answer is not None:
        said = (answer.server_message or _get_first_line(answer)).rstrip(".")
        if answer.response.status_code in (401, 403):
            return f"{said}. With a token that has access, {LOG_IN}."
        return f"{said}. Fix the cause, or try again later."
    if any(isinstance(one, UNREACHED) for one in chain):
        return (
            f"{constants.ENDPOINT} cannot be reached ({_get_first_line(chain[-1])}). Check the network, HF_ENDPOINT "
            "and HF_HUB_OFFLINE."
        )
    return _get_first_line(chain[-1])


def _iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _get_first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
