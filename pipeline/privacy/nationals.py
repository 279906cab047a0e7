"""The check digits of national ids, country by country; `identities` and `lettered` say how each is written.

Every function takes the compact form, digits and capital letters without separators, of the right length. They differ
in their weights only, and there are many countries: hence the length of this module.
"""

from __future__ import annotations

from pipeline.privacy.checks import date, dmy, luhn, mod11_10, weighted, ymd

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


def uk_utr(d: str) -> bool:
    """Unique Taxpayer Reference, its check digit in front."""
    return "21987654321"[weighted(d[1:], (6, 7, 8, 9, 10, 5, 4, 3, 2)) % 11] == d[0]


def hr_oib(d: str) -> bool:
    """ISO 7064 MOD 11,10."""
    return mod11_10(d)


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


def fr_spi(d: str) -> bool:
    """Numéro fiscal de référence, 13 digits: the first ten modulo 511."""
    return d[0] in "0123" and int(d[:10]) % 511 == int(d[10:])


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


def pl_nip(d: str) -> bool:
    """Tax number, of people in business too."""
    return weighted(d, (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(d[9])


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


def cz_sk_birth_old(d: str) -> bool:
    """Rodné číslo of nine digits, given until 1953: a date and a serial, no check digit."""
    month = int(d[2:4])
    return d[:2] <= "53" and d[6:] != "000" and date(int(d[:2]), month - 50 if month > 50 else month, int(d[4:6]))


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


def hu_tax(d: str) -> bool:
    """Adóazonosító jel: begins with 8."""
    return d[0] == "8" and weighted(d, range(1, 10)) % 11 == int(d[9])


def hu_personal(d: str) -> bool:
    """Személyi szám: sex and century, date, serial; the weights run the other way for those born from 1997 on."""
    checks = (weighted(d, range(1, 11)) % 11, weighted(d, range(10, 0, -1)) % 11)
    return d[0] in "12345678" and ymd(d[1:7]) and int(d[10]) in checks


def si_tax(d: str) -> bool:
    """Davčna številka, eight digits."""
    check = 11 - weighted(d, range(8, 1, -1)) % 11
    return d[0] != "0" and check != 11 and check % 10 == int(d[7])


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


def pt_niss(d: str) -> bool:
    """Número de Identificação da Segurança Social, eleven digits."""
    return d[0] in "12" and 9 - weighted(d, (29, 23, 19, 17, 13, 11, 7, 5, 3, 2)) % 10 == int(d[10])


def es_nss(d: str) -> bool:
    """Número de la Seguridad Social: province, number, remainder by 97 (a leading zero of the number isn't counted)."""
    number = d[:2] + d[2:10].lstrip("0").rjust(7 if d[2] == "0" else 8, "0")
    return "01" <= d[:2] <= "53" and int(number) % 97 == int(d[10:])


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


def de_pension(t: str) -> bool:
    """Rentenversicherungsnummer: area, DDMMYY, letter of the name, serial, check digit."""
    digits = t[:8] + f"{ord(t[8]) - 64:02d}" + t[9:11]
    total = sum(
        sum(divmod(int(digit) * weight, 10))
        for digit, weight in zip(digits, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=True)
    )
    day = int(t[2:4])
    return date(int(t[6:8]), int(t[4:6]), day - 50 if day > 50 else day) and total % 10 == int(t[11])


def cy_tax(t: str) -> bool:
    """Tax identification code of a person (it begins with 0 or 9) and its letter."""
    odd = sum((1, 0, 5, 7, 9, 13, 15, 17, 19, 21)[int(digit)] for digit in t[0:8:2])
    return t[0] in "09" and chr(65 + (odd + sum(map(int, t[1:8:2]))) % 26) == t[8]


def pt_card(t: str) -> bool:
    """Cartão de cidadão: nine digits, two letters or digits, a check digit by Luhn with letters from 10."""
    values = [int(char, 36) * (1 + (index % 2 == 0)) for index, char in enumerate(t)]
    return sum(value - 9 if index % 2 == 0 and value > 9 else value for index, value in enumerate(values)) % 10 == 0


def any_number(t: str) -> bool:
    """For what has no check digit: its word must stand beside it."""
    return t.strip("0") != ""


def mt_id(t: str) -> bool:
    """Identity card of Malta: there is no check digit, so its word must stand beside it."""
    return t[:-1].strip("0") != ""
