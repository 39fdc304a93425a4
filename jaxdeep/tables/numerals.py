"""Numbers as people write them, which a table takes for texts: 1,234.50 and $12 and 5 %."""

import re
from collections.abc import Collection

from jaxdeep._quoted import quoted
from jaxdeep.tables.conversion import number_of

_SIGN = "[+\N{MINUS SIGN}-]?"
_POWER = rf"(?:[eE]{_SIGN}\d+)?"
_CODES = (
    "USD EUR GBP JPY CNY CHF AUD CAD NZD SEK NOK DKK PLN CZK HUF INR BRL MXN KRW TRY ZAR RUB SGD HKD ILS"
)
_UNIT = (  # of shares and currencies, of which some are words
    "[%\N{PER MILLE SIGN}\xa2-\xa5\u20a0-\u20cf]|[A-Z]{0,2}\\$|"
    rf"(?i:{_CODES.replace(' ', '|')}|kr\.?|z\u0142|rs\.?)"
)
_MARK = rf"(?:{_UNIT})?"
_BETWEEN = "[.,'\u2019_\\s]"  # thousands, of which the decimals have another
_GROUPED = rf"\d{{1,3}}(?P<sep>{_BETWEEN})\d{{3}}(?:(?P=sep)\d{{3}})*(?:(?!(?P=sep))[.,]\d+)?"
_BODY = rf"(?:{_GROUPED}|\d+[.,]?\d*|[.,]\d+){_POWER}"
_SIGNED = rf"{_SIGN}\s*{_MARK}\s*{_SIGN}"
_WRITTEN = re.compile(rf"{_MARK}\s*(?P<below>\()?\s*{_SIGNED}{_BODY}\s*{_MARK}\s*(?(below)\))\s*{_MARK}")
_NO_NUMBER = re.compile(r"[+-]?(?i:inf|infinity|nan|\u221e)")  # as programs write them among numbers
_DECIMAL_COMMA = re.compile(rf"{_SIGN}(\d{{1,3}}((\.\d{{3}})+|\d*)(,\d+)?|,\d+){_POWER}")
_THOUSANDS = re.compile(rf"{_SIGN}[1-9]\d{{0,2}}(,\d{{3}})+(\.\d*)?")
_LONG = 60  # characters, which no number has that people write
_READ = "read the file with pandas.read_csv"
# full-width signs, and those that Arabic numbers have
_SIGNS = str.maketrans("\uff0b\uff0d\uff0e\uff0c\uff04\uff05\u066a\u066b\u066c", "+-.,$%%.,")


def oddly_written(texts: Collection[str]) -> str | None:
    """What to say of texts all of which are numbers, and some not as a table has them; None of others.

    >>> oddly_written(["1.5", "-2e3"]), oddly_written(["1,5", "a"])
    (None, None)
    >>> print(oddly_written(["1,5", "-1.234,5", "2"]))
    holds numbers with a decimal comma, such as '-1.234,5': write a point, or read the file with \
pandas.read_csv(…, decimal=",")
    >>> print(oddly_written(["$12.50", "$3"]))
    holds numbers that are not written plainly, such as '$12.50': write plain numbers, as 12.5
    >>> print(oddly_written(["12", "inf"]))
    holds numbers, and 'inf', which is none: write a number, or leave such rows out
    """
    infinite = sorted(text for text in texts if _NO_NUMBER.fullmatch(text))
    numbers = [text.translate(_SIGNS) for text in texts if not _NO_NUMBER.fullmatch(text)]
    if not numbers or not all(map(_is_written, numbers)):
        return None
    if infinite:
        shown = quoted(infinite[0])
        return f"holds numbers, and {shown}, which is none: write a number, or leave such rows out"
    odd = [text for text in texts if number_of(text) is None or not text.isascii()]
    if not odd:
        return None
    commas = [text for text in texts if "," in text]
    shown = min(commas or odd)
    if commas and all(map(_THOUSANDS.fullmatch, commas)):
        other = "" if any("." in text for text in commas) else ' (or, for decimals, decimal=",")'
        return (
            f"holds numbers with commas before three digits, such as {quoted(shown)}: write plain "
            f'numbers, or {_READ}(…, thousands=","){other}'
        )
    if commas and all(map(_DECIMAL_COMMA.fullmatch, texts)):
        return (
            f"holds numbers with a decimal comma, such as {quoted(shown)}: write a point, or {_READ}(…, "
            'decimal=",")'
        )
    shown = quoted(min(odd))
    return f"holds numbers that are not written plainly, such as {shown}: write plain numbers, as 12.5"


def _is_written(text: str) -> bool:
    return number_of(text) is not None or (len(text) <= _LONG and _WRITTEN.fullmatch(text) is not None)
