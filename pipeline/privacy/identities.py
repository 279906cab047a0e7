"""National ids as data: how each is written, what checks it, and whether it needs its word beside it.

A form is the number with each digit as 9. `own` forms tell enough with the check digits alone: they hold a date, have
separators of their own, or few numbers pass. `worded` forms look like any other number, one of ten or so passes the
check, and so count only behind a word for the id.

One table, hence longer than a module should be.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.privacy import nationals

Check = Callable[[str], bool]


def context(words: str) -> re.Pattern[str]:
    """Finds one of `words` at the end of a text, up to 24 characters that are no digits behind it."""
    return re.compile(rf"(?:(?<![^\W\d_])(?:{words}))(?![a-z]{{3}})[^0-9]{{0,24}}$", re.IGNORECASE)


def forms(lengths: str, separators: str = "") -> tuple[str, ...]:
    """`3 2 4` with separators ` -` are 999 99 9999 and 999-99-9999; without, 999999999."""
    groups = ["9" * int(length) for length in lengths.split()]
    return tuple(separator.join(groups) for separator in separators or ("",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One kind of id. `countries` are ISO 3166 codes."""

    countries: str
    name: str
    check: Check
    words: str
    own: tuple[str, ...] = ()
    worded: tuple[str, ...] = ()


IDENTITIES = (
    Identity(
        countries="US",
        name="Social Security number, ITIN",
        check=nationals.us_ssn,
        words=r"ssn|social(?: security)?(?: number| no)?|soc sec|itin|tax ?id|tin|taxpayer(?: id)?",
        own=forms("3 2 4", "- ."),
        worded=forms("9"),
    ),
    Identity(
        countries="GB",
        name="NHS number",
        check=nationals.uk_nhs,
        words=r"nhs(?: number| no)?|health service",
        worded=forms("10") + forms("3 3 4", " -."),
    ),
    Identity(
        countries="GB",
        name="Unique Taxpayer Reference",
        check=nationals.uk_utr,
        words=r"utr|taxpayer reference|tax reference|self assessment",
        worded=forms("10") + forms("5 5", " -"),
    ),
    Identity(
        countries="AT",
        name="Sozialversicherungsnummer",
        check=nationals.at_insurance,
        words=r"sv[- ]?n(?:umme)?r|sozialversicherungs?(?:[- ]?nummer)?|versicherungsnummer",
        own=forms("10") + forms("4 6", " -/") + forms("4 2 2 2", " "),
    ),
    Identity(
        countries="BE",
        name="rijksregisternummer, numéro national",
        check=nationals.be_national,
        words=r"rijksregister(?:nummer)?|insz|niss|num[ée]ro national|registre national|rrn",
        own=(
            *forms("11"),
            "99.99.99-999.99",
            *forms("2 2 2 3 2", ".- "),
            *forms("6 3 2", "-. "),
            "999999-99999",
            "99/99/99-999.99",
            "99/99/99-999-99",
        ),
    ),
    Identity(
        countries="BG",
        name="ЕГН",
        check=nationals.bg_egn,
        words=r"егн|egn|единен граждански номер",
        own=forms("10"),
    ),
    Identity(
        countries="HR",
        name="OIB",
        check=nationals.hr_oib,
        words=r"oib|osobni identifikacijski broj",
        worded=forms("11"),
    ),
    Identity(
        countries="CZ SK",
        name="rodné číslo",
        check=nationals.cz_sk_birth,
        words=r"rodn[ée] [čc][íi]slo|r\.? ?[čc]\.?",
        own=forms("10") + forms("6 4", "/ "),
    ),
    Identity(
        countries="CZ SK",
        name="rodné číslo until 1953",
        check=nationals.cz_sk_birth_old,
        words=r"rodn[ée] [čc][íi]slo|r\.? ?[čc]\.?",
        own=("999999/999",),
        worded=forms("9"),
    ),
    Identity(
        countries="DK",
        name="CPR-nummer",
        check=nationals.dk_cpr,
        words=r"cpr(?:[- ]?n(?:umme)?r)?|personnummer|personal id",
        own=forms("10") + forms("6 4", "- "),
    ),
    Identity(
        countries="DK",
        name="CPR-nummer without check digit",
        check=nationals.dk_cpr_date,
        words=r"cpr(?:[- ]?n(?:umme)?r)?|personnummer|personal id",
        worded=forms("10") + forms("6 4", "- "),
    ),
    Identity(
        countries="EE LT",
        name="isikukood, asmens kodas",
        check=nationals.ee_lt_personal,
        words=r"isikukood|asmens kodas|a\.? ?k\.?",
        own=forms("11"),
    ),
    Identity(
        countries="FR",
        name="numéro de sécurité sociale",
        check=nationals.fr_nir,
        words=r"nir|s[ée]curit[ée] sociale|num[ée]ro de s[ée]cu|insee",
        own=(*forms("15"), *forms("1 2 2 2 3 3 2", " .-"), "9 99 99 99 999 999 / 99", *forms("13 2", " -/")),
    ),
    Identity(
        countries="FR",
        name="numéro fiscal de référence",
        check=nationals.fr_spi,
        words=r"num[ée]ro fiscal|spi|nif",
        own=(*forms("13"), *forms("2 2 3 3 3", " "), *forms("2 3 3 3 2", " ")),
    ),
    Identity(
        countries="DE",
        name="Steueridentifikationsnummer",
        check=nationals.de_tax,
        words=r"steuer[- ]?(?:id|identifikationsnummer|nummer|nr)|idnr|tax ?id|identifikationsnummer|tin",
        own=(*forms("11"), *forms("2 3 3 3", " -/."), *forms("2 3 3 1 2", " ")),
    ),
    Identity(
        countries="GR",
        name="ΑΜΚΑ",
        check=nationals.gr_amka,
        words=r"amka|α\.?μ\.?κ\.?α\.?",
        own=forms("11"),
    ),
    Identity(
        countries="GR",
        name="ΑΦΜ",
        check=nationals.gr_afm,
        words=r"afm|α\.?φ\.?μ\.?|tin|tax ?id",
        worded=forms("9"),
    ),
    Identity(
        countries="HU",
        name="TAJ-szám",
        check=nationals.hu_taj,
        words=r"taj(?:[- ]?sz[áa]m)?",
        worded=forms("9") + forms("3 3 3", " -"),
    ),
    Identity(
        countries="HU",
        name="adóazonosító jel",
        check=nationals.hu_tax,
        words=r"ad[óo]azonos[íi]t[óo](?: jel)?|ad[óo]sz[áa]m",
        worded=forms("10"),
    ),
    Identity(
        countries="HU",
        name="személyi szám",
        check=nationals.hu_personal,
        words=r"szem[ée]lyi(?: sz[áa]m| azonos[íi]t[óo])?",
        own=forms("11") + forms("1 6 4", " -"),
    ),
    Identity(
        countries="IS",
        name="kennitala",
        check=nationals.is_kennitala,
        words=r"kennitala|kt",
        own=forms("10") + forms("6 4", "-"),
    ),
    Identity(
        countries="LV",
        name="personas kods",
        check=nationals.lv_personal,
        words=r"personas kods|p\.? ?k\.?",
        own=forms("6 5", "-"),
        worded=forms("11"),
    ),
    Identity(
        countries="LU",
        name="matricule",
        check=nationals.lu_matricule,
        words=r"matricule",
        own=(*forms("13"), *forms("4 2 2 3 2", " "), *forms("8 5", " "), *forms("4 4 5", " ")),
    ),
    Identity(
        countries="NL",
        name="burgerservicenummer",
        check=nationals.nl_bsn,
        words=r"bsn|burgerservicenummer|sofi ?nummer|sofinummer",
        own=("9999.99.999",),
        worded=forms("9") + forms("4 2 3", " -") + forms("3 3 3", " .-"),
    ),
    Identity(
        countries="NO",
        name="fødselsnummer",
        check=nationals.no_birth,
        words=r"f[øo]dselsnummer|fnr|personnummer",
        own=forms("11") + forms("6 5", " -."),
    ),
    Identity(
        countries="PL",
        name="PESEL",
        check=nationals.pl_pesel,
        words=r"pesel",
        own=forms("11"),
    ),
    Identity(
        countries="PL",
        name="NIP",
        check=nationals.pl_nip,
        words=r"nip",
        worded=forms("10") + forms("3 3 2 2", "- ") + forms("3 2 2 3", "- "),
    ),
    Identity(
        countries="PT",
        name="NIF",
        check=nationals.pt_nif,
        words=r"nif|contribuinte|fiscal|tin|tax ?id|nipc",
        worded=forms("9") + forms("3 3 3", " ."),
    ),
    Identity(
        countries="PT",
        name="NISS",
        check=nationals.pt_niss,
        words=r"niss|seguran[çc]a social",
        worded=forms("11"),
    ),
    Identity(
        countries="RO",
        name="CNP",
        check=nationals.ro_cnp,
        words=r"cnp|cod numeric personal",
        own=forms("13") + forms("1 6 6", " -"),
    ),
    Identity(
        countries="SI",
        name="EMŠO",
        check=nationals.si_emso,
        words=r"em[šs]o|jmbg",
        own=forms("13"),
    ),
    Identity(
        countries="SI",
        name="davčna številka",
        check=nationals.si_tax,
        words=r"dav[čc]na(?: [šs]tevilka)?",
        worded=forms("8"),
    ),
    Identity(
        countries="ES",
        name="número de la Seguridad Social",
        check=nationals.es_nss,
        words=r"seguridad social|nss|nuss|naf",
        own=forms("2 8 2", " /-"),
        worded=forms("12"),
    ),
    Identity(
        countries="SE",
        name="personnummer",
        check=nationals.se_personal,
        words=r"person(?:nummer|nr)|samordningsnummer|pnr",
        own=forms("10") + forms("6 4", "- "),
    ),
    Identity(
        countries="SE",
        name="personnummer with its century",
        check=nationals.se_personal_long,
        words=r"person(?:nummer|nr)|samordningsnummer|pnr",
        own=forms("12") + forms("8 4", "- "),
    ),
    Identity(
        countries="CH",
        name="AHV-Nummer, numéro AVS",
        check=nationals.ch_ahv,
        words=r"ahv|avs|sozialversicherungsnummer",
        own=forms("13") + forms("3 4 4 2", ". -"),
    ),
)
"""Ids of digits only. Those with letters are `LETTERED`."""

Rule = tuple[Check, re.Pattern[str], bool]


def _by_form() -> dict[str, tuple[Rule, ...]]:
    table: dict[str, tuple[Rule, ...]] = {}
    for identity in IDENTITIES:
        words = context(identity.words)
        for form in identity.own + identity.worded:
            table[form] = (*table.get(form, ()), (identity.check, words, form in identity.own))
    return table


BY_FORM = _by_form()
"""By form: check, words, and whether the check suffices without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lettered:
    """An id that mixes letters and digits. `pattern` is matched in any case; `words` must stand before it if given."""

    countries: str
    name: str
    pattern: str
    check: Check
    words: re.Pattern[str] | None = None
    separators: str = " .-"


LETTERED = {
    "nino": Lettered(
        countries="GB",
        name="National Insurance number",
        pattern=r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[A-D]",
        check=nationals.uk_nino,
    ),
    "driver": Lettered(
        countries="GB",
        name="driving licence",
        pattern=r"[A-Z]{2}[A-Z9]{3}[ -]?[0-9]{6}[ -]?[A-Z9]{2}[0-9][A-Z]{2}",
        check=nationals.uk_driver,
    ),
    "fiscal": Lettered(
        countries="IT",
        name="codice fiscale",
        pattern=r"[A-Z]{3} ?[A-Z]{3} ?[0-9LMNP-V]{2}[ABCDEHLMPRST][0-9LMNP-V]{2} ?[A-Z][0-9LMNP-V]{3} ?[A-Z]",
        check=nationals.it_fiscal,
    ),
    "dni": Lettered(
        countries="ES",
        name="DNI, NIE",
        pattern=r"(?:[XYZ][ -]?(?:[0-9]{7}|[0-9]\.[0-9]{3}\.[0-9]{3})|[0-9]{8}|[0-9]{2}[.][0-9]{3}[.][0-9]{3}"
        r"|[0-9]{2}[ ][0-9]{3}[ ][0-9]{3})[ -]?[A-HJ-NP-TV-Z]",
        check=nationals.es_dni,
    ),
    "tic": Lettered(
        countries="CY",
        name="tax identification code",
        pattern=r"[09][0-9]{7}[ -]?[A-Z]",
        check=nationals.cy_tax,
    ),
    "pps": Lettered(
        countries="IE",
        name="PPS number",
        pattern=r"[0-9]{7} ?[A-W][A-IW]?",
        check=nationals.ie_pps,
    ),
    "hetu": Lettered(
        countries="FI",
        name="henkilötunnus",
        pattern=r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]",
        check=nationals.fi_hetu,
        separators="",
    ),
    "nir": Lettered(
        countries="FR",
        name="numéro de sécurité sociale of Corsica",
        pattern=r"[12378][ .-]?[0-9]{2}[ .-]?[0-9]{2}[ .-]?2[AB][ .-]?[0-9]{3}[ .-]?[0-9]{3}[ .-]?[0-9]{2}",
        check=nationals.fr_nir,
    ),
    "pension": Lettered(
        countries="DE",
        name="Rentenversicherungsnummer",
        pattern=r"[0-9]{2} ?[0-9]{6} ?[A-Z] ?[0-9]{3}",
        check=nationals.de_pension,
    ),
    "cartao": Lettered(
        countries="PT",
        name="cartão de cidadão",
        pattern=r"[0-9]{8} ?[0-9] ?(?:[A-Z][A-Z0-9]|[0-9][A-Z])[0-9]",
        check=nationals.pt_card,
    ),
    "malta": Lettered(
        countries="MT",
        name="identity card",
        pattern=r"[0-9]{3,7}[MGAPLHBZ]",
        check=nationals.mt_id,
        words=context(r"(?:identity|id)(?: card)?(?: number| no)?|karta tal-identit[àa]|malta"),
    ),
}
"""Ids with letters, by the name of their group in the pattern that finds them."""

NAMED_ONLY = ("passports", "identity cards and driving licences other than those above")
"""Known by the name of their field alone."""
