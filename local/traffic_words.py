"""Words for made-up events. No word names a person: surnames and given names are put together from syllables."""

from __future__ import annotations

_SYLLABLES = """
    ba be bo da do dra el fen ga gor hal im ja ka kel la len lo lu ma mel mi mor na nel ni nor o pa pel qua ra rel ri ro
    sa sel sha so ta tel to tor u va vel vi vo wen xa yo za zel zu
"""
SYLLABLES = tuple(_SYLLABLES.split())

TYPES = {
    "pageview": 40,
    "click": 15,
    "scroll": 12,
    "product_view": 9,
    "form_focus": 5,
    "add_to_cart": 4,
    "form_submit": 3,
    "lead_form_submit": 2,
    "begin_checkout": 2,
    "purchase": 2,
    "signup": 1,
    "subscription": 1,
    "conversion": 2,
    "batch": 1,
}
"""Event types and their weights."""

PAGES = (
    ("/", "Home"),
    ("/products", "All products"),
    ("/products/blue-kettle", "Blue kettle, 1.7 l"),
    ("/products/größe-42", "Schuhe in Größe 42"),
    ("/category/garden/tools", "Garden tools"),
    ("/appointments/new", "Book an appointment"),
    ("/about", "Über uns"),
    ("/contact", "Contáctenos"),
    ("/checkout/payment", "Payment"),
    ("/blog/2026/ten-ways-to-brew", "Ten ways to brew tea"),
    ("/search", "Search results"),
)
"""Path and title."""

PRODUCTS = (
    "blue kettle",
    "garden chair",
    "running shoe",
    "desk lamp",
    "wool blanket",
    "ceramic mug",
    "Zelt für 2",
    "鉄瓶",
)

REFERRERS = (
    "",
    "https://www.search.example/",
    "https://social.example/feed?post=88121",
    "android-app://com.example.reader",
)

CAMPAIGNS = ("spring-sale", "brand", "retargeting_q4", "newsletter 12")

LANGUAGES = ("en-US", "en-GB", "de-DE", "fr-FR", "es-ES", "ja-JP", "ar-EG", "pt-BR")

TIME_ZONES = ("America/New_York", "Europe/Berlin", "Asia/Tokyo", "Africa/Cairo", "Australia/Sydney", "UTC")

SCREENS = ((1920, 1080), (1366, 768), (390, 844), (412, 915), (2560, 1440), (820, 1180))

_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6"
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0"

USER_AGENTS = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Safari/537.36",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Safari/605.1.15",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) {_WEBKIT} Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Linux; Android 15; Pixel 9) {_CHROME} Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (compatible; ExampleBot/2.1; +https://bot.example/about)",
    "",
)

ODD_TEXTS = (
    "👩🏽‍🚀 launch 🚀🚀",
    "مرحبا بالعالم",
    "שלום עולם",
    "\u202eevitanretla\u202c",
    "e\u0301 a\u0308 o\u0302\u0323",
    "bell \u0007 escape \u001b[31m unit \u001f del \u007f",
    "line\u2028separator\u2029paragraph",
    'tab\tnew\nline\r\nquote" back\\slash /slash',
    "",
    " ",
    "NaN",
    "null",
    "</script><b>bold</b>",
    "'; DROP TABLE events_log; --",
    "𝕬𝖇𝖈 ﬁ ＦＵＬＬ",
    "\ufeffbyte order mark",
    "%s %d {0} ${x}",
    '"client_id":"somebody-else"',
    '\\"raw_event_data\\":{}',
)
"""No U+0000: jsonb refuses it."""

ODD_NUMBERS = (
    b"1.10",
    b"0.000",
    b"-0",
    b"1e2",
    b"123456789012345678901234567890",
    b"3.14159265358979323846264338327950288",
    b"-99999999999999999999.9900",
    b"9007199254740993",
)
"""JSON numbers that a parser with floats or 64-bit integers would change."""

MESSAGES = (
    "Please call me at {phone} or write to {email}, thanks!",
    "Bitte rufen Sie mich unter {phone} zurück. Meine Adresse: {address}.",
    "Mon e-mail est {email} ; livrez au {address}.",
    "Server said: client {ip} blocked (see ticket 4711).",
    "I paid with {card} and was charged twice. Reach me: {email}",
    "Nothing personal here, just a longer sentence about the delivery of a chair that wobbles.",
    "電話番号は{phone}、メールは{email}です。",
    "Ship to: {address}\nContact: {phone}",
    "connected from {ip}; visitor left {email} in the chat",
)

STREETS = (
    "Maple Street",
    "Harbour Road",
    "Lindenstraße",
    "rue des Tilleuls",
    "Calle Mayor",
    "Station Lane",
    "2nd Avenue",
)

TOWNS = (
    "Springfield, IL 62704",
    "10115 Berlin",
    "75011 Paris",
    "London SW1A 2AA",
    "28013 Madrid",
    "Portland, OR 97205",
)

UNOWNED_HOSTS = ("unclaimed.example", "www.nobody-has-this.example", "localhost", "preview-7f3a.unclaimed.example")
"""Hosts and site ids that no client has: events from there belong to nobody."""

MARKERS = ("unknown_domain", "unknown_x", "error_lookup", "unauthorized_site")
"""What the collector writes into client_id when it doesn't know the client."""

STRANGE_CLIENTS = (
    "ghost-client",
    "../x",
    "..",
    "a/b",
    "",
    " ",
    "' OR 1=1 --",
    "x" * 300,
    "ünïcode",
    "a\nb",
    "*",
    "null",
    "%2e%2e",
)
"""Well-formed but unknown, or hostile."""
