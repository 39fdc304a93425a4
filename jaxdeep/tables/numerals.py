"""Numbers as people write them, which a table takes for texts: 1,234.50 and $12 and 5 %."""

import re
from collections.abc import Collection

from jaxdeep.tables.conversion import number_of

_SIGN = "[+\N{MINUS SIGN}-]?"
_POWER = rf"(?:[eE]{_SIGN}\d+)?"
_MARK = "[%\N{PER MILLE SIGN}$\xa2-\xa5\u20a0-\u20cf]?"  # of shares and currencies
_BETWEEN = "[.,'\u2019\\s]"  # thousands, of which the decimals have another
_GROUPED = rf"\d{{1,3}}(?P<sep>{_BETWEEN})\d{{3}}(?:(?P=sep)\d{{3}})*(?:(?!(?P=sep))[.,]\d+)?"
_BODY = rf"(?:{_GROUPED}|\d+[.,]?\d*|[.,]\d+){_POWER}"
_WRITTEN = re.compile(rf"{_SIGN}\s*{_MARK}\s*{_SIGN}{_BODY}\s*{_MARK}")
_DECIMAL_COMMA = re.compile(rf"{_SIGN}(\d{{1,3}}((\.\d{{3}})+|\d*)(,\d+)?|,\d+){_POWER}")
_THOUSANDS = re.compile(rf"{_SIGN}[1-9]\d{{0,2}}(,\d{{3}})+(\.\d*)?")
_READ = "read the file with pandas.read_csv"


def oddly_written(texts: Collection[str]) -> str | None:
    """What to say of texts all of which are numbers, and some not as a table has them; None of others.

    >>> oddly_written(["1.5", "-2e3"]), oddly_written(["1,5", "a"])
    (None, None)
    >>> print(oddly_written(["1,5", "-1.234,5", "2"]))
    holds numbers with a decimal comma, such as '-1.234,5': write a point, or read the file with \
pandas.read_csv(…, decimal=",")
    >>> print(oddly_written(["$12.50", "$3"]))
    holds numbers that are not written plainly, such as '$12.50': write plain numbers, as 12.5
    """
    if not all(map(_WRITTEN.fullmatch, texts)):
        return None
    odd = [text for text in texts if number_of(text) is None]
    if not odd:
        return None
    commas = [text for text in texts if "," in text]
    shown = min(commas or odd)
    if commas and all(map(_THOUSANDS.fullmatch, commas)):
        other = "" if any("." in text for text in commas) else ' (or, for decimals, decimal=",")'
        return (
            f"holds numbers with commas before three digits, such as {shown!r}: write plain numbers, or "
            f'{_READ}(…, thousands=","){other}'
        )
    if commas and all(map(_DECIMAL_COMMA.fullmatch, texts)):
        return (
            f"holds numbers with a decimal comma, such as {shown!r}: write a point, or {_READ}(…, "
            'decimal=",")'
        )
    return (
        f"holds numbers that are not written plainly, such as {min(odd)!r}: write plain numbers, as 12.5"
    )
