"""The words around a name that change what it means, and those that tell whose a `name` is. Tables like `words`."""

from __future__ import annotations

TEXT_ALLOWED = """
title pagetitle documenttitle productname producttitle producttype productcategory category categories categoryname
itemcategory brand brandname variant sku currency coupon couponcode promotion promotionname campaign campaignname
utmsource utmmedium utmcampaign utmterm utmcontent utmid eventtype eventname eventcategory eventaction eventlabel
event action buttontext linktext ctatext elementtext elementid elementclass formname formid formtitle listname
contentgroup pagetype pagecategory sectionname experiment experimentname variantname plan planname paymentmethod
shippingmethod shippingtier affiliation status type language locale timezone browser browsername os osname platform
device devicetype country countryname region state useragent viewport screen appname appversion version referrer url
path href src selector xpath devicemodel phonemodel modelname classname tagname itemname videotitle videoname filename
"""

PEOPLE = """
user users customer customers client clients contact contacts contactinfo contactdetails person people persons lead
leads patient patients guest guests member members subscriber employee employees owner buyer shopper recipient
recipients sender billing shipping billingdetails shippingdetails billinginfo shippinginfo billingto shipto billto
personal personalinfo personaldetails personalia applicant applicants attendee attendees participant participants
passenger passengers traveler traveller travelers travellers driver spouse children mother father kids student
students tenant insured beneficiary signer signatory cardholder holder payer payee profile userprofile userinfo
userdata customerinfo customerdata customerdetails leaddata registrant registration emergencycontact nextofkin kunde
kunden kontakt nutzer benutzer empfanger rechnungsempfanger patientin destinataire utilisateur cliente clientes
usuario contacto destinatario utente contatto usuarios contato klant klanten gebruiker contactpersoon klienta kund
kundens zakaznik zakaznika ugyfel ugyfele asiakkaan ugyfele πελατη πελατης клиента kupac kupca kliendi kliento klienta
klient kunddata anvandare kontaktperson asiakas musteri клиент пользователь контакт получатель 顧客 お客様 用户 客户
고객 사용자
"""

THINGS = """
product products item items lineitem lineitems cart basket cartitems sku skus variant variants offer offers promotion
promotions coupon coupons discount discounts campaign campaigns event events page pages site website brand brands
category categories collection collections plan plans package file files attachment document asset media video videos
image images song album book course module feature app apps application extension plugin theme browser os platform
screen viewport engine cpu gpu network carrier experiment experiments test tests abtest flag flags segment segments
audience goal goals funnel step steps button buttons link links element elements widget component target currenttarget
section banner creative ad ads adgroup adset placement keyword form forms template layout tag tags topic list lists
menu navigation country currency language locale timezone region store stores shop branch warehouse venue school
company companies organization organisation organizations business brandinfo vendor vendors supplier suppliers
manufacturer merchant provider publisher advertiser channel source medium partner affiliate attribution utm metric
metrics measure timing performance resource resources error errors exception stack font fonts hotel flight route
station airport listing listings job jobs vacancy ticket tickets seat method taxes produkt produkte artikel produit
produits articles article producto productos articulo articulos prodotto prodotti articolo articoli produto produtos
produkty produkter tuote tuotteet urun urunler товар товары 商品 产品 상품 playlist playlists restaurant restaurants
recipe recipes movie movies film films series episode game games show shows podcast style styles color colors colour
club gym museum gallery magazine journal newspaper blog post posts destination destinations airline cruise ship car
cars vehicle vehicles model models dealer dealership property properties house room rooms service services
subscription bundle kit deal deals sale promo label department departments team teams league sport hospital clinic
bank marke kategorie filiale geschaft laden marque magasin categorie tienda marca categoria negozio loja merk winkel
sklep marka butik firma unternehmen empresa azienda bedrijf
"""

THING_SIGNS = """
sku price quantity qty unitprice listprice saleprice currency discount gtin ean upc isbn mpn asin variant brand
category itemcategory productid productcategory itemid productsku itemvariant stock instock availability weight
color colour size campaignid bannerid creativeid promotionid promoid formid elementid buttonid href src selector
classname classlist tagname version mimetype extension filesize bytes prix precio prezzo preis preco prijs cena pris
hinta fiyat цена 価格 价格 가격 menge anzahl quantite cantidad quantita quantidade aantal ilosc antal
"""


PREFIXES = """
canvas webgl audio device browser location geo position gps birth billing bill shipping ship delivery invoice payment
payer user users customer client contact home work office business company private personal primary secondary main
alternate alternative alt other your my our new old current previous former prior member guest lead recipient sender
receiver owner account acct profile parent guardian patient employee applicant buyer seller shopper subscriber admin
person people emergency insured beneficiary spouse partner child form field input frm txt fld data raw value the a crm
erp wp checkout order registration register signup signin login newsletter subscribe subscription footer header popup
modal leadform webform cf7 wpforms gform hs hubspot mktg marketo salesforce sf shopify woocommerce paypal stripe
klaviyo enter confirm confirmation repeat retype verify verification validate hashed sha256 md5 sha1 hash encrypted
plain text student passenger traveler traveller driver tenant participant attendee donor volunteer visitor person1
person2 mobile daytime evening rechnungs rechnung liefer lieferung kunden kunde kontakt privat geschaft livraison
facturation facturacion envio cliente contacto fatturazione spedizione contatto faturamento entrega contato factuur
bezorg klant contactpersoon faktura dostawa klient legal full complete valid real default preferred requested
submitted entered typed gift giver giftrecipient friend friends referral referred reporter manager address adresse
deine dein ihre ihr unsere votre ton ta vos tu tus su sus vostra vostro tuo tua suo sua uw jouw twoj twoja din ditt
deres sinun vas vase tvuj seu sua
zustell absender empfanger adr konto ansprechpartner
"""

SUFFIXES = """
field input value val text txt string number no nr num confirm confirmation confirmed2 repeat retype again full raw
hash hashed sha256 md5 sha1 plain encrypted primary secondary home work mobile office private business billing
shipping main alt alternate other address addr line new old current previous entered submitted typed param data info
details normalized canonical lower lowercase clean original local international intl e164 formatted ext extension
cd nbr nm day month year area linea ligne zeile regel one two three list array entry answer response content
numero cislo broj numer szam numar nummer numara номер
zusatz geschaftlich dienstlich privat
"""

NEUTRAL_HEADS = """
type types kind status state verified valid validity isvalid invalid count counts total consent consented optin optout
opted subscribed subscription unsubscribed subscribe enabled disabled required optional provider domain domains
campaign campaigns template templates subject model brand os format formats placeholder error errors length visible
hidden clicked clicks click sent opened open opens bounced bounce delivered preference preferences pref prefs language
lang locale country countrycode carrier rate ratio score quality index position time times timestamp duration ms
seconds color colour width height version mode method methods flag flags marketing newsletter frequency notifications
notification settings setting permission permissions allowed exists present provided filled completed focused touched
dirty changed blur focus match matches strength policy rules rule reset resetlink forgot app apps service server
button btn cta icon banner form page section step view event action category segment listid source medium channel
tracking pixel tag tags plan tier level currency price cost amount fee size unit units case cases os browser devices
network tower menu site friendly theme typ tipo valido valida valide gultig ungultig verificado verificata verifie
bestatigt sichtbar anzahl fehler erreur errore fout blad vorhanden pflicht pflichtfeld requis requerido activo actif
aktiv attivo geklickt klick clic hinweis tooltip hint screen accessories accessory stand charger cable cover linetype
region zone timezone max min limit
device
shown
"""


QUESTIONS = """
tipo type typ boton bouton bottone icono icone icona btn tiene hat is has have can allow allows show hide enable
accepts accept wants want should use no with without require utm
"""

THING_TEXTS = """
event query page post article job form list request campaign adset adgroup creative placement keyword basket
"""
"""Of these only the ids are numbers: `event` itself may hold a text."""

QUALIFIERS = """
user users customer customers client contact contacts lead member members subscriber account session visitor device
patient person card creditcard bank policy insurance driver license licence social tax national vehicle employee guest
insured beneficiary name birth medical chart prescription claim certificate machine hardware anonymous
passenger applicant identity passport kunde nutzer benutzer utilisateur cliente usuario utente klant gebruiker klient
"""
"""Names of objects that say what the members below them are: `card` says it of `number`, `session` of `id`."""

HOLDERS = """
info data details detail object obj ctx context record entity attributes attrs props properties fields state model dto
"""

PERSON_TEXTS = """
customer person contact patient passenger applicant recipient guest buyer employee insured beneficiary caregiver
guarantor subscriber attendee participant traveler traveller payer payee signatory tenant doctor physician kunde
cliente klant klient asiakas
"""
"""A text below these may be the person's name, if it looks like one."""

FIELD_LABELS = """
field label key fieldname fieldid fieldlabel inputname inputid inputlabel question property attribute formfield
elementname parameter param placeholder prompt fieldkey variablename slug type inputtype fieldtype k columnname
columnid
"""

FIELD_CONTENTS = """
value values val answer answers response responses content contents input inputvalue fieldvalue newvalue oldvalue
currentvalue text rawvalue displayvalue selected selectedvalue entered v stringvalue
"""

FORMS = """
formdata formvalues formfields
"""

BESIDE_PEOPLE = {
    **dict.fromkeys(("via", "ulice", "gate"), "address"),
    **dict.fromkeys(("cap", "cp", "zp"), "postal_code"),
    **dict.fromkeys(("portable", "ph"), "phone"),
    **dict.fromkeys(("prezime", "ad", "fn", "ln"), "name"),
    **dict.fromkeys(("mel", "em"), "email"),
    **dict.fromkeys(("pin",), "credential"),
    **dict.fromkeys(("rg",), "national_id"),
    **dict.fromkeys(("first", "last", "given", "family", "middle"), "name"),
}
"""Words that mean a person's data in a form only: they count beside other data of a person."""

VERSIONS = """
version versions release build firmware osversion appversion sdkversion libraryversion
"""

THING_NUMBERS = """
order orders transaction transactions invoice receipt product item sku ean gtin upc isbn asin mpn tracking shipment
parcel ticket booking reservation payment refund coupon voucher campaign ad adset adgroup creative placement keyword
event request trace span correlation build commit revision hash checksum etag nonce uuid guid serialless position
price total subtotal amount revenue tax discount quantity cost timestamp time ts cart checkout basket list variant
page post article job query cache form experiment bestellung bestellnummer auftrag rechnung commande facture pedido
factura ordine fattura fatura bestelling factuur zamowienie
"""

ID_TAILS = """
id ids no nr num number numbers code codes ref reference references key hash uuid guid token tokens value total amount
price sku group status state count index rank date time timestamp ts version
"""

PAGE_WORDS = """
sale summer winter spring autumn fall black friday cyber monday newsletter form button page banner shirt shoes shoe
plan pro premium basic offer deal campaign launch test menu video gift card free trial download guide ebook webinar
sign up signup login log in out contact us get started learn more add to cart buy now shop checkout home about
product blue red green white default standard new old header footer hero section main primary secondary click view
scroll event website site app web mobile email search the for and of with your our my submit request demo quote book
call order purchase subscribe subscription lead conversion
"""

ENGLISH = """
e email mail address addresses addr line lines street house number no num nr nbr phone phones tel telephone mobile
cell cellular fax land home work day evening daytime time contact call back whats app whatsapp sms msisdn first last
sur name names fore given family full middle maiden legal birth preferred real person people recipient customer client
user buyer shopper guest member patient employee owner holder account acct card cards on cc applicant lead subscriber
spouse partner parent mother mothers father child kid student teacher doctor physician signatory signer payer payee
passenger traveller traveler driver drivers tenant insured beneficiary delegate attendee participant visitor your my
and second third initial initials login logins log in id ids nick handle zip code codes post postal date dates of dob
b place year month dt ssn social security national nationality identity identification identifier insurance personal
tax taxpayer passport license licence credit debit payment cvv cvc csc expiry expiration exp iban bic swift bank
routing sort password passwords pass word phrase wd pin secret token key cookie cookies set otp api auth authorization
header access refresh session bearer answer question one verification magic link reset ip ips v4 v6 remote host source
src public local x forwarded for real true mac wifi bssid bluetooth ethernet latitude longitude latitudes longitudes
lat lng lon long coord coords coordinate coordinates gps geo hash hashed location position point plate vehicle
registration vin chassis signature signatures digital face voice print retina iris scan finger biometric biometrics
sha256 md5 screen user users skype telegram wechat linkedin facebook twitter instagram tiktok discord profile to from
reply paypal emergency next kin relative delivery residential billing shipping permanent current mailing residence
complement building apartment apt flat unit po box plus bday birthday birthdays town city county complete username
usernames
"""
"""What English names are made of."""

CONNECTORS = """
of the de del della dello di do da dos du des la le les el los der die das den dem und and e y et i og och ja a van
voor en ir un och till ki ve
"""

ABBREVIATIONS = """
nm:name nbr:number cd:code cust:customer usr:user emp:employee eml:email nro:nr
"""

TIMID = """
website homepage facebook twitter instagram linkedin xing nip nss
tel cell mobile mobil fax handy gsm movil portable address addr adres adresse adress via str rue gata calle rua
cim vej ip ips zip postal cep plz psc mac lat lng lon coord coords ga gid scid awc kx clid fbp fbc city ort stad
stadt ville mesto obec oras comune district metro region secret otp cookie cookies cc csc bic rib nir nie nif cif
dni pps hetu vin targa serial udi license licence certificate account accounts acct birth nick login handle initials
mail mails meil name names nom nome nombre naam namn navn nimi nev nume ime date dates datum data fecha dato age
ages message messages msg note notes search query q question questions review reviews condition conditions request
treatment photo photos picture pictures avatar avatars foto fotos uid muid fnr afm oib egn cnp cpf emso ua
fingerprint skype telegram residence residency complement complemento jwt departement commune county town village
locality suburb precinct street gps signature signatures biometric biometrics termin cita employer workplace psswd
pass
apt mob adi neve isem ainm
plate sn dna gait plate tagnumber registrationnumber guarantor caregiver pager hcn groupno labid reg regno
"""

NAME_OWNERS = """
first last given family account acct lead my your owner
to ship bill sold consignee admin agent cardholder card parent guardian legal full real middle maiden
liefer rechnungs empfanger absender ansprechpartner inhaber besteller
"""
