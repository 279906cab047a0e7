"""Check digits and plausible dates: what tells a national id, a card or an account from any other number.

Every function takes the compact form, digits and capital letters without separators, of the right length.
"""

from __future__ import annotations

from collections.abc import Sequence

_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    numbers = [int(digit) for digit in digits]
    return (sum(numbers[-1::-2]) + sum(_DOUBLED[number] for number in numbers[-2::-2])) % 10 == 0


def date(year: int, month: int, day: int) -> bool:
    """Whether month and day exist together, 29 February in years divisible by four (`year` may lack its century)."""
    return 1 <= month <= 12 and 1 <= day <= _DAYS[month - 1] and not (month == 2 and day == 29 and year % 4)


def ymd(digits: str) -> bool:
    """Six digits, year first."""
    return date(int(digits[:2]), int(digits[2:4]), int(digits[4:6]))


def dmy(digits: str) -> bool:
    """Six digits, day first."""
    return date(int(digits[4:6]), int(digits[2:4]), int(digits[:2]))


def weighted(digits: str, weights: Sequence[int]) -> int:
    """The sum of digits times weights, over the shorter of both."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def mod97(text: str) -> int:
    """ISO 7064 over letters and digits, A = 10."""
    return int("".join(str(int(char, 36)) for char in text)) % 97


def mod11_10(digits: str) -> bool:
    """ISO 7064 MOD 11,10."""
    product = 10
    for digit in digits[:-1]:
        product = (int(digit) + product) % 10 or 10
        product = product * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


# --- cards and accounts -----------------------------------------------------------------------------------------------


def card(digits: str) -> bool:
    """A number of a known network, in one of its lengths, with Luhn's digit."""
    size = len(digits)
    if not 12 <= size <= 19 or digits[0] == "0" or digits == digits[0] * size:
        return False
    two, three, four = int(digits[:2]), int(digits[:3]), int(digits[:4])
    known = (
        (digits[0] == "4" and size in (13, 16, 19))
        or (size == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))
        or (size == 15 and two in (34, 37))
        or (size in (16, 19) and (four == 6011 or two == 65 or 644 <= three <= 649))
        or (size == 16 and (3528 <= four <= 3589 or two in (60, 81, 82) or 2200 <= four <= 2204 or four == 9792))
        or (size == 14 and (two in (36, 38, 39) or 300 <= three <= 305))
        or (16 <= size <= 19 and two == 62)
        or (size in (16, 18, 19) and (two == 50 or 56 <= two <= 58 or two in (63, 67) or four in (6759, 6761, 6763)))
    )
    return known and luhn(digits)


IBAN_LENGTHS = {
    **{
        "AD": 24,
        "AE": 23,
        "AL": 28,
        "AT": 20,
        "AZ": 28,
        "BA": 20,
        "BE": 16,
        "BG": 22,
        "BH": 22,
        "BI": 27,
        "BR": 29,
        "BY": 28,
    },
    **{
        "CH": 21,
        "CR": 22,
        "CY": 28,
        "CZ": 24,
        "DE": 22,
        "DJ": 27,
        "DK": 18,
        "DO": 28,
        "EE": 20,
        "EG": 29,
        "ES": 24,
        "FI": 18,
    },
    **{
        "FK": 18,
        "FO": 18,
        "FR": 27,
        "GB": 22,
        "GE": 22,
        "GI": 23,
        "GL": 18,
        "GR": 27,
        "GT": 28,
        "HN": 28,
        "HR": 21,
        "HU": 28,
    },
    **{
        "IE": 22,
        "IL": 23,
        "IQ": 23,
        "IS": 26,
        "IT": 27,
        "JO": 30,
        "KW": 30,
        "KZ": 20,
        "LB": 28,
        "LC": 32,
        "LI": 21,
        "LT": 20,
    },
    **{
        "LU": 20,
        "LV": 21,
        "LY": 25,
        "MC": 27,
        "MD": 24,
        "ME": 22,
        "MK": 19,
        "MN": 20,
        "MR": 27,
        "MT": 31,
        "MU": 30,
        "NI": 28,
    },
    **{
        "NL": 18,
        "NO": 15,
        "OM": 23,
        "PK": 24,
        "PL": 28,
        "PS": 29,
        "PT": 25,
        "QA": 29,
        "RO": 24,
        "RS": 22,
        "RU": 33,
        "SA": 24,
    },
    **{
        "SC": 31,
        "SD": 18,
        "SE": 24,
        "SI": 19,
        "SK": 24,
        "SM": 27,
        "SO": 23,
        "ST": 25,
        "SV": 28,
        "TL": 23,
        "TN": 24,
        "TR": 26,
    },
    **{"UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30},
}
"""Length by country, of the registry that ISO 13616 names."""


def iban(text: str) -> bool:
    """ISO 13616."""
    return IBAN_LENGTHS.get(text[:2]) == len(text) and mod97(text[4:] + text[:4]) == 1


# --- national ids, digits only ----------------------------------------------------------------------------------------


def us_ssn(d: str) -> bool:
    """No check digit: only ranges that the Social Security Administration never assigns are refused; ITINs count."""
    area, group, serial = d[:3], d[3:5], d[5:]
    if area[0] == "9":
        return group[0] in "5789" and serial != "0000"
    return area not in ("000", "666") and group != "00" and serial != "0000"


def uk_nhs(d: str) -> bool:
    """Modulus 11 over nine digits."""
    return 11 - weighted(d, range(10, 1, -1)) % 11 == (int(d[9]) or 11) and d != d[0] * 10


def de_tax(d: str) -> bool:
    """Steueridentifikationsnummer: one digit stands twice or thrice among the first ten, and ISO 7064 MOD 11,10."""
    counts = sorted(d[:10].count(digit) for digit in set(d[:10]))
    return d[0] != "0" and counts[-1] in (2, 3) and len(counts) in (8, 9) and mod11_10(d)


def fr_nir(d: str) -> bool:
    """Numéro de sécurité sociale, 15 digits; Corsica's 2A and 2B count as 19 and 18."""
    digits = d.replace("2A", "19").replace("2B", "18")
    if not digits.isdigit():
        return False
    month = int(digits[3:5])
    return (
        d[0] in "12378" and (1 <= month <= 12 or 20 <= month <= 42) and 97 - int(digits[:13]) % 97 == int(digits[13:])
    )


def be_national(d: str) -> bool:
    """Rijksregisternummer."""
    plausible = ymd(d) or d[2:6] == "0000" or date(int(d[:2]), int(d[2:4]) % 20, int(d[4:6]))
    return plausible and any(97 - int(century + d[:9]) % 97 == int(d[9:]) for century in ("", "2"))


def nl_bsn(d: str) -> bool:
    """Burgerservicenummer, the eleven test."""
    return d != "0" * 9 and weighted(d, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def pl_pesel(d: str) -> bool:
    """The century stands in the month."""
    return date(int(d[:2]), int(d[2:4]) % 20, int(d[4:6])) and weighted(d, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def se_personal(d: str) -> bool:
    """Personnummer of ten or twelve digits; samordningsnummer add 60 to the day."""
    d = d[-10:]
    day = int(d[4:6])
    return date(int(d[:2]), int(d[2:4]), day - 60 if day > 60 else day) and luhn(d)


def se_personal_long(d: str) -> bool:
    """Twelve digits, the century first."""
    return d[:2] in ("19", "20") and se_personal(d)


def dk_cpr(d: str) -> bool:
    """With the modulus 11 that numbers given since 2007 needn't have."""
    return dmy(d) and weighted(d, (4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def dk_cpr_date(d: str) -> bool:
    """The date alone, for where the word CPR stands beside it."""
    return dmy(d)


def no_birth(d: str) -> bool:
    """Fødselsnummer; D-numbers add 40 to the day."""
    day = int(d[:2])
    return (
        date(int(d[4:6]), int(d[2:4]), day - 40 if day > 40 else day)
        and weighted(d, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and weighted(d, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def is_kennitala(d: str) -> bool:
    """Iceland."""
    return dmy(d) and weighted(d, (3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0 and d[9] in "089"


def ee_lt_personal(d: str) -> bool:
    """Estonia's isikukood and Lithuania's asmens kodas."""
    if d[0] not in "123456" or not ymd(d[1:7]):
        return False
    check = weighted(d, (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if check == 10:
        check = weighted(d, (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return check == int(d[10])


def lv_personal(d: str) -> bool:
    """Personas kods; those given since 2017 begin with 32 and have no date."""
    return d[:2] == "32" or (dmy(d) and (1101 - weighted(d, (1, 6, 3, 7, 9, 10, 5, 8, 4, 2))) % 11 % 10 == int(d[10]))


def cz_sk_birth(d: str) -> bool:
    """Rodné číslo of ten digits; women's months are greater by 50."""
    month = int(d[2:4])
    month = month - 50 if month > 50 else month
    return date(int(d[:2]), month - 20 if month > 20 else month, int(d[4:6])) and (
        int(d) % 11 == 0 or (int(d[:9]) % 11 == 10 and d[9] == "0")
    )


def bg_egn(d: str) -> bool:
    """The century stands in the month."""
    month = int(d[2:4])
    month -= 40 if month > 40 else 20 if month > 20 else 0
    return date(int(d[:2]), month, int(d[4:6])) and weighted(d, (2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 % 10 == int(d[9])


def ro_cnp(d: str) -> bool:
    """Thirteen digits, sex and century first."""
    check = weighted(d, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return d[0] in "12345678" and ymd(d[1:7]) and "01" <= d[7:9] <= "52" and (1 if check == 10 else check) == int(d[12])


def hu_taj(d: str) -> bool:
    """Nine digits."""
    return weighted(d, (3, 7, 3, 7, 3, 7, 3, 7)) % 10 == int(d[8])


def si_emso(d: str) -> bool:
    """Slovenia's EMŠO and the JMBG of its neighbours: DDMMYYY."""
    year = int(d[4:7])
    check = 11 - weighted(d, (7, 6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (
        (year >= 900 or year <= 30)
        and date(year, int(d[2:4]), int(d[:2]))
        and (0 if check > 9 else check) == int(d[12])
    )


def gr_amka(d: str) -> bool:
    """DDMMYY and Luhn."""
    return dmy(d) and luhn(d)


def gr_afm(d: str) -> bool:
    """Nine digits."""
    return weighted(d, (256, 128, 64, 32, 16, 8, 4, 2)) % 11 % 10 == int(d[8]) and d != "0" * 9


def pt_nif(d: str) -> bool:
    """Nine digits, first digit by kind of person."""
    check = 11 - weighted(d, range(9, 1, -1)) % 11
    return d[0] in "1235689" and (0 if check > 9 else check) == int(d[8])


def at_insurance(d: str) -> bool:
    """Sozialversicherungsnummer: serial, check digit, DDMMYY (months up to 15 where a day is full)."""
    return (
        d[0] != "0"
        and 1 <= int(d[4:6]) <= 31
        and 1 <= int(d[6:8]) <= 15
        and weighted(d[:3] + d[4:], (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11 == int(d[3])
    )


def ch_ahv(d: str) -> bool:
    """756, then an EAN-13."""
    return d[:3] == "756" and (10 - weighted(d, (1, 3) * 6) % 10) % 10 == int(d[12])


def lu_matricule(d: str) -> bool:
    """YYYYMMDD and Luhn over twelve digits (the thirteenth is Verhoeff's, not checked)."""
    return d[:2] in ("19", "20") and ymd(d[2:8]) and luhn(d[:12])


# --- national ids with letters ----------------------------------------------------------------------------------------

_DNI = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_CF_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21) * 2 + (2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)
_VIN = {
    **{str(n): n for n in range(10)},
    **dict(
        zip(
            "ABCDEFGHJKLMNPRSTUVWXYZ",
            (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9),
            strict=True,
        )
    ),
}


def uk_nino(t: str) -> bool:
    """National Insurance number: prefixes that were never given are refused."""
    return t[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def uk_driver(t: str) -> bool:
    """Driving licence: the month stands in digits seven and eight, women's greater by 50."""
    return 1 <= int(t[6:8]) % 50 <= 12


def es_dni(t: str) -> bool:
    """DNI, or NIE with its first letter standing for a digit."""
    number = t[:-1].replace("X", "0", 1).replace("Y", "1", 1).replace("Z", "2", 1)
    return number.isdigit() and _DNI[int(number) % 23] == t[-1]


def it_fiscal(t: str) -> bool:
    """Codice fiscale."""
    total = sum(_CF_ODD[char] for char in t[0:15:2]) + sum(
        int(char) if char.isdigit() else ord(char) - 65 for char in t[1:15:2]
    )
    return chr(65 + total % 26) == t[15]


def fi_hetu(t: str) -> bool:
    """Henkilötunnus, the century sign at index six."""
    return dmy(t) and _HETU[int(t[:6] + t[7:10]) % 31] == t[10]


def ie_pps(t: str) -> bool:
    """Seven digits, a check letter, perhaps a second letter."""
    second = ord(t[8]) - 64 if len(t) > 8 and t[8] != "W" else 0
    return chr(64 + (weighted(t[:7], range(8, 1, -1)) + second * 9) % 23).replace("@", "W") == t[7]


def vin(t: str) -> bool:
    """Vehicle identification number with the check digit of North America (49 CFR 565)."""
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    rest = sum(_VIN.get(char, 0) * weight for char, weight in zip(t, weights, strict=True)) % 11
    return ("X" if rest == 10 else str(rest)) == t[8]
