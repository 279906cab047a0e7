"""National ids of digits only, as data: how each is written, what checks it, and whether it needs its word beside it.

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
    return re.compile(rf"(?:(?<![^\W\d_])(?:{words}))(?![a-z]{{3}})(?P<gap>[^0-9]{{0,24}})$", re.IGNORECASE)


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
        own=forms("3 3 4", " "),
        worded=forms("10") + forms("3 3 4", "-."),
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
"""Ids of digits only. Those with letters are in `lettered`."""

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
