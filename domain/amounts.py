"""Amounts of money as they are written in India."""

_UNITS = (("Cr", 10_000_000), ("L", 100_000), ("K", 1_000))
"""Crore, lakh and thousand. Each is a hundred of the next one."""


def rupees(amount: int) -> str:
    """The exact amount: 8500000 is ₹85,00,000. Digits are grouped by three, then by two."""
    return ("-" if amount < 0 else "") + "₹" + _grouped(abs(amount))


def short_rupees(amount: int) -> str:
    """The amount in crores, lakhs or thousands: ₹1.19 Cr, ₹85 L, ₹25 K. Below a thousand it is exact.

    At most two decimals, rounded half to even, without trailing zeros. What would be rounded up to the next unit is
    rounded down: 9999999 is ₹99.99 L, never ₹1 Cr, because a price just below a round one is meant to be seen as such.
    """
    size = abs(amount)
    for name, unit in _UNITS:
        if size >= unit:
            hundredths = _rounded(size * 100, unit)
            if name != "Cr":
                hundredths = min(hundredths, 99_99)
            whole, rest = divmod(hundredths, 100)
            decimals = f".{rest:02}".rstrip("0") if rest else ""
            return ("-" if amount < 0 else "") + f"₹{_grouped(whole)}{decimals} {name}"
    return rupees(amount)


def _grouped(amount: int) -> str:
    digits = str(amount)
    head, groups = digits[:-3], [digits[-3:]]
    while head:
        groups.insert(0, head[-2:])
        head = head[:-2]
    return ",".join(groups)


def _rounded(dividend: int, divisor: int) -> int:
    """The quotient, rounded half to even."""
    quotient, rest = divmod(dividend, divisor)
    return quotient + (2 * rest > divisor or (2 * rest == divisor and quotient % 2 == 1))
