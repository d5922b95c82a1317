"""Exact JSON numbers: their bounds, and a coding as text that sorts like the numbers."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import msgspec

Number = int | Decimal

JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

_MOST_DIGITS = 1_000
"""Characters of a number written without exponent, which is the limit of Elasticsearch."""

_LARGEST, _SMALLEST = 308, -324  # decimal exponents near float64's ends: 1.8e308 and 5e-324
_SHORT = 300  # characters
# The coding of a number: n:0 for zero; n:1, a size and the digits for a positive number; n:-, a size, the complement of
# each digit to 9, and ~ for a negative number. The size is 500,000 plus the number of digits before the decimal point,
# or minus the number of zeros after it; a negative number swaps plus and minus. So 12.5 is n:1500002125.
_ZERO_EXPONENT = 500_000
_POSITIVE = tuple(f"n:1{_ZERO_EXPONENT + size}" for size in range(24))
_NINES = str.maketrans("0123456789", "9876543210")


encode = msgspec.json.Encoder(decimal_format="number").encode
"""Write a value as JSON; a Decimal becomes a number, to its last digit."""


class OutOfRange(ValueError):
    """A number is too large, too small or has too many digits; the text says which."""


def read(literal: str) -> Decimal:
    """Read a JSON number, exact to the last digit.

    Raises:
        OutOfRange: as a float64 the number would be infinity or zero, or it has too many digits.
    """
    try:
        number = Decimal(literal)
    except InvalidOperation as exc:  # an exponent of 20 digits
        raise OutOfRange("is beyond float64 (5e-324 to 1.8e308)") from exc
    if not number:  # -0 and 0e5 are written as 0
        return number if not number.is_signed() and int(number.as_tuple().exponent) <= 0 else Decimal(0)
    size = number.adjusted()
    if size >= _LARGEST and (size > _LARGEST or float(number) in (float("inf"), float("-inf"))):
        raise OutOfRange("is beyond float64 (up to 1.8e308)")
    if size <= _SMALLEST and (size < _SMALLEST or not float(number)):
        raise OutOfRange("is nearer to zero than float64 can tell (5e-324)")
    if len(literal) + abs(int(number.as_tuple().exponent)) > _MOST_DIGITS and len(plain(number)) > _MOST_DIGITS:
        raise OutOfRange(f"has more than {_MOST_DIGITS:,} digits")
    return number


def read_float(text: str) -> Decimal:
    """Read a JSON number with a fraction or an exponent. The result keeps a decimal point.

    Raises:
        OutOfRange: see ``read``.
    """
    # PERF: a short number without exponent breaks no bound, and most numbers are such.
    if len(text) <= _SHORT and "e" not in text and "E" not in text and (number := Decimal(text)):
        return number
    number = read(text)
    return Decimal(f"{number}.0") if number.as_tuple().exponent == 0 else number


def read_term(coded: str) -> str:
    """Decode a number that ``term`` has coded, without zeros at the end of a fraction."""
    if coded == "n:0":
        return "0"
    negative, size, digits = coded[2] == "-", int(coded[3:9]) - _ZERO_EXPONENT, coded[9:]
    if negative:
        size, digits = -size, digits[:-1].translate(_NINES)
    if size <= 0:
        text = f"0.{'0' * -size}{digits}"
    else:
        text = digits[:size].ljust(size, "0") + (f".{digits[size:]}" if len(digits) > size else "")
    return f"-{text}" if negative else text


def read_number(text: str) -> Decimal | None:
    """Read a text as a number; None if it is not a number that data can hold."""
    try:
        return read(text) if JSON_NUMBER.fullmatch(text) else None
    except OutOfRange:
        return None


def plain(number: Number) -> str:
    """Write a number with all digits and without exponent, as PostgreSQL's jsonb does."""
    return str(number) if isinstance(number, int) else f"{number:f}"


def term(number: Number) -> str:
    """Code a number as a text. Texts sort like the numbers, and equal numbers have equal texts."""
    return plain_term(plain(number))


def plain_term(text: str) -> str:
    """Code a number that ``plain`` has written; see ``term``."""
    whole, _, fraction = text.partition(".")
    if text[0] >= "1" and len(whole) < len(_POSITIVE):  # PERF: most numbers are 1 or more
        return _POSITIVE[len(whole)] + (whole + fraction).rstrip("0")
    whole = whole.lstrip("-0")
    digits = whole + fraction
    size = len(whole) if whole else len(fraction.lstrip("0")) - len(fraction)
    digits = digits.strip("0")
    if not digits:
        return "n:0"
    if text[0] != "-":
        return f"n:1{_ZERO_EXPONENT + size}{digits}"
    # Among negative numbers, more digits mean a smaller number, so the end sorts after every digit.
    return f"n:-{_ZERO_EXPONENT - size}{digits.translate(_NINES)}~"
