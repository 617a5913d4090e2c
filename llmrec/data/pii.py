"""Redaction of personal details in texts, found by their form and their check digits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.config.data import PiiConfig, PiiKind
from llmrec.errors import ConfigError, missing_extra

# Phone numbers are those that Google's numbering plans accept (`phonenumbers`); card numbers and IBANs have the right
# check digits (`stdnum`); IP addresses parse. The larger redaction tools rely on these too, and their language models,
# of hundreds of megabytes, find names as well. Here names, addresses and dates stay, and text that only looks like a
# detail, such as a version number of four parts, may be removed.

# A text is searched only if it matches this: most do not, and never become Python objects.
SUSPECT = r"@|(?:\d[^\pL]{0,3}){7}|\d\.\d+\.\d+\.\d|:[0-9A-Fa-f]{0,4}:|[A-Z]{2}\d\d"
EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,63}\b")
CARD = re.compile(r"(?<![\w.-])(?:3[0-9]|4\d|5[1-5]|2[2-7]|6\d)(?:[ -]?\d){12,17}(?![\w-])")
IBAN = re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4})(?![\w:]|\.\d)")
# Lengths by issuer: American Express, Diners Club, JCB, Visa, Mastercard, Discover and UnionPay.
ISSUED = re.compile(r"3[47]\d{13}|3[0689]\d{12}|35\d{14}|4\d{15}|(?:5[1-5]|2[2-7])\d{14}|6\d{15,18}")


class PiiRedactor:
    """Redactor of texts that replaces each personal detail with its kind in brackets.

    Args:
        config: Kinds of details, and the countries whose phone numbers are found.

    Raises:
        ConfigError: If the libraries are not installed, or a country is unknown.
    """

    def __init__(self, config: PiiConfig) -> None:
        try:
            import phonenumbers
            import stdnum  # noqa: F401  (its checks are imported where they are used)
        except ImportError as error:
            raise ConfigError(f"data.pii: {error.name} is not installed. {missing_extra('scrub')}") from error
        unknown = set(config.phone_regions) - phonenumbers.SUPPORTED_REGIONS
        if unknown:
            raise ConfigError(
                f"data.pii.phone_regions: {sorted(unknown)} are not countries. Use ISO 3166 codes such as US."
            )
        self.config = config
        finders: dict[PiiKind, Callable[[str], Iterator[tuple[int, int]]]] = {
            "email": lambda text: _find_spans(EMAIL, text),
            "iban": lambda text: _find_spans(IBAN, text, check=_is_iban),
            "credit_card": lambda text: _find_spans(CARD, text, check=_is_card),
            "ip": lambda text: _find_spans(IP, text, check=_is_ip),
            "phone": self._find_phones,
        }
        # The order matters: a detail that was found is not searched again, and the digits of a card may be a phone
        # number.
        self.finders = {kind: find for kind, find in finders.items() if kind in config.kinds}

    def redact_text(self, text: str, counts: Counter[str] | None = None) -> str:
        """Redact a text.

        Args:
            text: The text.
            counts: Counter to which the number of details of each kind is added.

        Returns:
            The redacted text.
        """
        for kind, find in self.finders.items():
            for start, end in sorted(find(text), reverse=True):
                text = f"{text[:start]}[{kind}]{text[end:]}"
                if counts is not None:
                    counts[kind] += 1
        return text

    def redact_texts(self, texts: Sequence[str]) -> list[str]:
        """Redact several texts.

        Args:
            texts: The texts.

        Returns:
            The redacted texts.
        """
        return [self.redact_text(text) for text in texts]

    def redact_item(self, item: Mapping[str, object], id_column: str) -> dict[str, object]:
        """Redact the fields of an item, except its id.

        Args:
            item: Fields by name.
            id_column: Name of the field of the id.

        Returns:
            The redacted fields by name.
        """
        return {name: value if name == id_column else self._redact_value(value) for name, value in item.items()}

    def redact_array(self, texts: pa.Array, counts: Counter[str]) -> pa.Array:
        """Redact an array of texts; texts without suspicious characters are not searched.

        Args:
            texts: Texts, (N,).
            counts: Counter to which the number of details of each kind is added.

        Returns:
            Redacted texts, (N,).
        """
        suspect = pc.fill_null(pc.match_substring_regex(texts, SUSPECT), fill_value=False)
        scrubbed = [self.redact_text(text, counts) for text in texts.filter(suspect).to_pylist()]
        return pc.replace_with_mask(texts, suspect, pa.array(scrubbed, texts.type)) if scrubbed else texts

    def redact_table(self, table: pa.Table, but: Sequence[str]) -> tuple[pa.Table, Counter[str]]:
        """Redact all columns of text and of lists of text.

        Args:
            table: The table.
            but: Names of the columns to leave unchanged.

        Returns:
            The redacted table, and the number of details of each kind.
        """
        counts = Counter[str]()
        for place, name in enumerate(table.column_names):
            if name not in but and _is_text(table.schema.field(name).type):
                column = pa.chunked_array(
                    [self._chunk(chunk, counts) for chunk in _decode_dictionary(table[name]).chunks]
                )
                table = table.set_column(place, name, column)
        return table, counts

    def _chunk(self, chunk: pa.Array, counts: Counter[str]) -> pa.Array:
        if not pa.types.is_list(chunk.type) and not pa.types.is_large_list(chunk.type):
            return self.redact_array(chunk, counts)
        values = self.redact_array(chunk.flatten(), counts)
        lengths = np.asarray(pc.fill_null(pc.list_value_length(chunk), 0)).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=chunk.is_null())

    def _redact_value(self, value: object) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._redact_value(one) for one in value]
        return self.redact_text(value) if isinstance(value, str) else value

    def _find_phones(self, text: str) -> Iterator[tuple[int, int]]:
        import phonenumbers

        end = 0
        found = [
            (match.start, match.end)
            for region in (None, *self.config.phone_regions)
            for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.VALID)
        ]
        for first, last in sorted(found, key=lambda span: (span[0], -span[1])):
            if first >= end:  # a number valid in several countries counts once
                yield first, last
                end = last


def make_pii_redactor(config: PiiConfig | None) -> PiiRedactor | None:
    """Make a redactor, or return None if no redaction is configured.

    Args:
        config: Kinds of details and countries; None for no redaction.

    Returns:
        The redactor or None.

    Raises:
        ConfigError: If the libraries are not installed, or a country is unknown.
    """
    return None if config is None else PiiRedactor(config)


def format_counts(counts: Mapping[str, int]) -> str:
    """Format the number of details of each kind.

    Args:
        counts: Number of details by kind.

    Returns:
        Text such as "2 email, 1 phone", or "none".
    """
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())) or "none"


def _find_spans(
    pattern: re.Pattern[str], text: str, *, check: Callable[[str], bool] | None = None
) -> Iterator[tuple[int, int]]:
    return (match.span() for match in pattern.finditer(text) if check is None or check(match[0]))


def _is_card(found: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", found)
    return ISSUED.fullmatch(digits) is not None and bool(luhn.is_valid(digits))


def _is_iban(found: str) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(found))


def _is_ip(found: str) -> bool:
    try:
        address = ip_address(found)
    except ValueError:
        return False
    return any(character.isdigit() for character in found) and not address.is_unspecified


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _decode_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decode a dictionary-encoded column."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
