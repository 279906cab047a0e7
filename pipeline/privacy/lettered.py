"""National ids that mix letters and digits, as data: how each is written, what checks it, whether it needs its word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.privacy import nationals
from pipeline.privacy.identities import Check, context


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
    "passport": Lettered(
        countries="all",
        name="passport",
        pattern=r"[A-Z]{0,2}[0-9]{6,9}",
        check=nationals.any_number,
        words=context(r"passport|reisepass|passeport|pasaporte|passaporto|passaporte|paspoort|paszport|pasaport"),
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
