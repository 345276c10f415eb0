"""Writes amounts of money and areas as India does. `figures.py` reads them back."""

_UNITS = (("Cr", 10_000_000), ("L", 100_000), ("K", 1_000))
"""Crore, lakh and thousand, of which each is a hundred of the next one."""


def rupees(amount: int) -> str:
    """The exact amount: 8500000 is ₹85,00,000. Digits are grouped by three, then by two."""
    return ("-" if amount < 0 else "") + "₹" + _grouped(abs(amount))


def short_rupees(amount: int) -> str:
    """The amount in crores, lakhs or thousands where two decimals show all of it: ₹1.19 Cr, ₹85 L, ₹25 K.

    Any other amount is written in full, as `rupees` does, so that no price is shown as another one: 9999999 is never
    ₹1 Cr.
    """
    for name, unit in _UNITS:
        if abs(amount) >= unit:
            if amount % (unit // 100):
                break
            whole, rest = divmod(abs(amount) * 100 // unit, 100)
            decimals = f".{rest:02}".rstrip("0") if rest else ""
            return ("-" if amount < 0 else "") + f"₹{_grouped(whole)}{decimals} {name}"
    return rupees(amount)


def square_feet(area: int) -> str:
    """An area: 1800 is `1,800 sq ft`."""
    return f"{_grouped(area)} sq ft"


def _grouped(amount: int) -> str:
    digits = str(amount)
    head, groups = digits[:-3], [digits[-3:]]
    while head:
        groups.insert(0, head[-2:])
        head = head[:-2]
    return ",".join(groups)
