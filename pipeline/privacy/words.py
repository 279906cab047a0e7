"""The words by which people's data are labelled in web forms, in the languages of common web forms.

Tables, hence longer than a module should be. Each entry is a name in lower case, without accents (ß is ss) and without
separators: `Code postal`, `code_postal` and `codePostal` all become `codepostal`.
"""

from __future__ import annotations


def table(text: str) -> frozenset[str]:
    """The words of a table that needs no folding."""
    return frozenset(text.split())


EMAIL = """
email mail emailaddress mailaddress emailaddr emailid emails mails useremail loginemail emailadresse mailadresse epost
epostadresse epostadress eposta epostaadresi courriel adresseemail adressemail adressemel correo correoelectronico
direcciondecorreo direccioncorreo correos indirizzoemail indirizzomail postaelettronica emailadres mailadres
enderecodeemail enderecoemail correioeletronico adresemail adresmailowy adrespocztyelektronicznej pocztaelektroniczna
sahkoposti sahkopostiosoite emailcim adresaemail drepturiemail elpastas epasts meil почта электроннаяпочта
адресэлектроннойпочты емейл имейл эмейл емайл пошта електроннапошта メール メールアドレス eメール 電子メール 邮箱
电子邮件 电子邮箱 邮件 電子郵件 電郵 이메일 이메일주소 메일 البريدالالكتروني replyto paypalemail דואל אימייל emailto
mailto emailhash hashedemail emailsha256 sha256email emailmd5 md5email sha256emailaddress hashedemailaddress
ηλεκτρονικοταχυδρομειο ηλταχυδρομειο електроннапоща
adresadeemail emailovaadresa
"""

PHONE = """
festnetznummer mobielenummer telefonnecislo telefonnicislo mobitel brojtelefona brojmobitela telefonskastevilka
telportable talrunis talrunanumurs הטלפון טלפון נייד טלפוןנייד الهاتف الجوال رقمالجوال tilefono kinito telefonas
telefoninumber mobiltelefonszam numarmobil phone phones telephone telephones tel phonenumber phonenumbers phoneno
phonenr phonenum telno telnr telnumber telephonenumber telephoneno mobile mobilephone mobilenumber mobileno mobilenr
cell cellphone cellnumber cellphonenumber cellular fax faxnumber faxno telefax telefaxnummer landline homephone
workphone dayphone eveningphone daytimephone contactnumber contactno callback callbacknumber whatsapp whatsappnumber
msisdn smsnumber telefon telefonnummer telefonnr rufnummer mobil mobilnummer mobiltelefon mobilfunk mobilfunknummer
handy handynummer handynr festnetz faxnummer numerodetelephone numerotelephone telephoneportable telephonemobile
telephonefixe numeroportable telefono telefonos numerodetelefono numerotelefono telefonomovil telefonofijo movil
celular cellulare telefonocellulare recapitotelefonico telefone telefones numerodetelefone numerotelefone telemovel
telefonecelular celulartelefone telefoon telefoonnummer telefoonnr mobielnummer mobieltelefoonnummer mobiel gsm
gsmnummer gsmno numertelefonu telefonkomorkowy komorka nrtelefonu nrtel mobilnytelefon telefonnumer
mobilnytelefonnummer puhelin puhelinnumero matkapuhelin telefonszam mobilszam telefonnicislo cislotelefonu mobilni
telefoncislo numardetelefon telefonmobil telefonnumarasi telefonno ceptelefonu cepno ceptel τηλεφωνο κινητο телефон
номертелефона мобильный мобильныйтелефон мобильныйномер мобилен тел контактныйтелефон мобильнийтелефон 電話 電話番号
携帯 携帯電話 携帯番号 でんわ 电话 电话号码 手机 手机号 手机号码 联系电话 手機 手機號碼 電話號碼 전화 전화번호 휴대폰
휴대전화 휴대폰번호 연락처 هاتف رقمالهاتف phonehash hashedphone phonesha256 sha256phone hashedphonenumber
sha256phonenumber phno phnum phnumber phn mobno mobnum mobnr mob telfixe telmovil telfijo puh puhnro puhnr
αριθμοςτηλεφωνου αριθμοςκινητου телефоненномер telefononumeris
notelephone
pager pagernumber beeper
"""

NAME = """
nextofkin emergencycontact relativename soyisim anyjaneve onoma eponymo onomateponymo שם שםפרטי שםמשפחה שםמלא
kundenname ihrname votrenom prenomnom klantnaam uwnaam namnfullt fullstandigtnamn fuldenavn nimikoko numefamilie
презиме priimek imeinpriimek nomprenoms celejmeno menoapriezvisko vardaspavarde vardsuzvards firstname lastname
surname forename forenames surnames givenname givennames familyname fullname middlename maidenname legalname birthname
preferredname realname personname peoplename contactname contactperson recipientname customername clientname
username1st buyername shoppername guestname membername patientname employeename ownername holdername accountholder
accountholdername cardholder cardholdername nameoncard ccname applicantname leadname subscribername spousename
partnername parentname mothername fathername childname kidname studentname teachername doctorname physicianname
signatoryname signername payername payeename passengername travellername travelername drivername tenantname
insuredname beneficiaryname delegatename attendeename participantname visitorname yourname myname namefirst namelast
namefull firstandlastname firstlastname mothersmaidenname mothermaidenname secondname thirdname initials middleinitial
fname lname mname vorname vornamen nachname zuname familienname geburtsname vollername vollstandigername namevorname
vorundnachname rufname ansprechpartner kontoinhaber karteninhaber prenom prenoms nomdefamille nomcomplet nomprenom
nometprenom prenometnom nomdenaissance nomdejeunefille nomduclient titulaire titulairedelacarte nombreyapellidos
nombrecompleto nombrepropio apellido apellidos primerapellido segundoapellido apellidopaterno apellidomaterno
primernombre segundonombre titular titulardelatarjeta cognome nomecognome nomeecognome nomecompleto nominativo
intestatario nomeproprio primeironome ultimonome sobrenome apelido nomedemae nomedamae voornaam voornamen achternaam
familienaam volledigenaam tussenvoegsel roepnaam meisjesnaam naamkaarthouder imie imiona nazwisko imieinazwisko
nazwiskorodowe pelneimie fornamn efternamn fulltnamn fornavn etternavn efternavn fulltnavn mellomnavn mellemnavn
etunimi sukunimi kokonimi keresztnev vezeteknev csaladnev teljesnev jmeno prijmeni krestnijmeno meno priezvisko
prenume numedefamilie numecomplet ime prezime imeiprezime vardas pavarde vards uzvards eesnimi perekonnanimi adsoyad
adisoyadi adiniz soyad soyadi soyadiniz isim isimsoyisim ονομα επωνυμο ονοματεπωνυμο имя фамилия отчество фио
полноеимя имяифамилия имяфамилия вашеимя імя прізвище побатькові име фамилно 氏名 姓名 お名前 姓 名 名字 苗字 せい
めい フリガナ ふりがな カナ 真实姓名 联系人 收货人 收件人 이름 성명 성함 실명 الاسم الاسمالكامل اسمالعائلة
consigneename ainm sloinne isem kunjom nomusage nomdusage anyjaleanykorineve schoolname nextofkinname guarantorname
guarantor caregivername caregiver responsibleparty referringphysician attendingphysician attendingdoctor
primarycarephysician pcpname emergencycontactname
namefamily namegiven namemiddle
rechnungsempfanger warenempfanger kontoinhabername empfangername absendername bestellername
"""

AMBIGUOUS_NAME = """
name names nom nome nombre naam namn navn nimi nazwa nev nume imię название 名前 名称
adi neve
"""

USERNAME = """
kayttajatunnus korisnickoime uporabniskoime kasutajanimi lietotajvards
username usernames userlogin login loginname loginid nickname nick userhandle twitterhandle
instagramhandle skype skypeid skypename telegram telegramid telegramusername linkedinurl facebookprofile
instagramusername tiktokusername discordusername wechat wechatid wechatnumber benutzername nutzername
benutzerkennung anmeldename nomutilisateur nomdutilisateur identifiantutilisateur pseudo nombreusuario
nombredeusuario nomeutente nomedeusuario nomeusuario gebruikersnaam nazwauzytkownika anvandarnamn brukernavn
brugernavn kayttajanimi felhasznalonev uzivatelskejmeno kullaniciadi логин имяпользователя никнейм ユーザー名
ユーザ名 ニックネーム 用户名 昵称 微信 微信号 사용자이름 닉네임 displayname
"""

ADDRESS = """
odos diefthinsi dieuthinsi כתובת רחוב woonadres ulica ulicaibroj naslov adrese aadress gatve tanav kucnibroj
hisnastevilka domicilu address addresses addr addressline addresslines fulladdress streetaddress street streetname
streetno streetnumber streetline housenumber houseno housename buildingnumber apartment apartmentnumber aptnumber
aptno flatnumber unitnumber pobox homeaddress workaddress mailingaddress postaladdress deliveryaddress
residentialaddress residence billingaddress shippingaddress permanentaddress currentaddress addresscomplement adresse
adresszeile adresszusatz anschrift lieferanschrift rechnungsanschrift lieferadresse rechnungsadresse wohnanschrift
strasse strassenname strasseundhausnummer strassehausnummer hausnummer hausnr str postfach adressepostale
adressecomplete adressedelivraison adressedefacturation complementdadresse complementadresse rue numeroderue nomderue
direccion direccioncompleta direcciondeenvio direcciondefacturacion domicilio calle numerodecalle indirizzo
indirizzocompleto indirizzodispedizione numerocivico endereco enderecocompleto logradouro morada rua complemento adres
adresregel straat straatnaam huisnummer huisnr toevoeging bezorgadres factuuradres ulica nrdomu nrmieszkania numerdomu
adreszamieszkania adresdostawy adress gatuadress gata gatunamn leveransadress fakturaadress gateadresse vejnavn
husnummer leveringsadresse osoite katuosoite lahiosoite cim lakcim utca hazszam adresa ulicecp strada adresalivrare
sokak mahalle acikadres adresi teslimatadresi διευθυνση οδος адрес улица домашнийадрес адресдоставки номердома
квартира адреса вулиця 住所 番地 丁目 建物名 都道府県市区町村 地址 详细地址 街道 收货地址 通讯地址 住址 주소 상세주소
도로명주소 العنوان addrln staddr straddr resaddr permaddr corraddr flatno apt buildingname unitno numerorue
callenumero viaenumero seoladh szallitasicim szamlazasicim
uliceacislo uliceacislodomu adresapostala direccionpostal evadresi indirizzopostale enderecopostal
"""

POSTAL_CODE = """
taxydromikoskodikas מיקוד postanskibroj postnastevilka пощенскикод pastokodas pastaindekss postiindeks sihtnumber
zip zipcode zipcodes zips zippostal postcode postcodes postalcode postalcodes postal postalzip zippostalcode postzip
zip4 zip5 zipplus4 plz postleitzahl codepostal codigopostal codigospostales codicepostale codicediavviamentopostale
cep postnummer postnr kodpocztowy postinumero iranyitoszam irsz psc codpostal postakodu postindex почтовыйиндекс
индекс поштовийіндекс 郵便番号 邮编 邮政编码 郵遞區號 우편번호 ταχυδρομικοςκωδικας eircode
τκ capresidenza cpenvio cpcliente
homestatezip statezip citystatezip cityzip
"""

BIRTH = """
imerominiagennisis תאריךלידה luogonascita szuletesiido датанараждане датанараждането datumrodenja datumrodjenja
datumrojstva gimimodata dzimsanasdatums sunniaeg sunnikuupaev datumnarozeni datanasteri dob birthdate birthdates
dateofbirth birthday birthdays bday birth birthyear birthmonth yearofbirth monthofbirth dayofbirth placeofbirth
birthplace birthdt dateofbirthday geburtsdatum geburtstag geburtsort geburtsjahr gebdatum gebdat datenaissance
datedenaissance lieudenaissance anneedenaissance naissance fechanacimiento fechadenacimiento fechanac nacimiento
lugardenacimiento datanascita datadinascita dataedinascita luogodinascita datanascimento datadenascimento nascimento
geboortedatum geboorteplaats geboortejaar dataurodzenia miejsceurodzenia rokurodzenia fodelsedatum fodelsedag
fodelsear fodselsdato fodselsdag fodselsar syntymaaika syntymapaiva szuletesidatum datumnarozeni datumnarodenia
datanasterii datumrodenja dogumtarihi dogumgunu dogumyili ημερομηνιαγεννησης датарождения деньрождения годрождения
датанародження 生年月日 誕生日 出生日期 出生年月 生日 생년월일 생일 تاريخالميلاد
datenaiss datanasc szuldatum szulido szuletesiev
"""

NATIONAL_ID = """
מספרזהות תעודתזהות numerpaszportu nss numeronss partitaiva αφμ αμκα davcnastevilka davcna nip numernip vatnumber
osobnyidentifikator ssn ssnlast4 last4ssn ssn4 socialsecurity socialsecurityno socialsecuritynumber socialsecuritynr
socialinsurancenumber nationalid nationalidno nationalidnumber nationalidentifier nationalidentitynumber
nationalinsurance nationalinsurancenumber nationalinsuranceno nino ninumber nhs nhsnumber nhsno identitycard
identitycardnumber identitynumber idcard idcardnumber idcardno personalid personalidnumber personalidentitynumber
personalidentificationnumber citizenid citizennumber taxid taxidnumber taxidentifier taxidentificationnumber taxnumber
taxpayerid itin govid governmentid governmentidnumber aadhaar aadhaarnumber aadhar pannumber pancard sinnumber voterid
passport passportno passportnumber passportnr passportid visanumber driverlicense driverlicence driverslicense
driverslicence driverlicensenumber driverslicensenumber driverslicencenumber drivinglicence drivinglicense
drivinglicencenumber drivinglicensenumber dlnumber licencenumberdriver residencepermit personalausweis
personalausweisnummer ausweisnummer ausweisnr reisepass reisepassnummer steuerid steueridnr steuernummer
steueridentifikationsnummer idnr sozialversicherungsnummer svnummer svnr rentenversicherungsnummer
krankenversicherungsnummer versichertennummer fuhrerscheinnummer ahvnummer ahv nir numerosecuritesociale
numerodesecuritesociale securitesociale numerosecu numsecu carteidentite cartenationaledidentite numerofiscal
numerofiscale passeport numeropasseport permisdeconduire dni nie nif dninie numerodni documentoidentidad
documentodeidentidad numerodedocumento numerodocumento cedula curp nuss seguridadsocial numeroseguridadsocial
pasaporte permisodeconducir codicefiscale codfiscale cartaidentita cartadiidentita passaporto patente tesserasanitaria
cpf cnpj numerodecontribuinte contribuinte cartaocidadao cartaodecidadao bilhetedeidentidade niss bsn bsnnummer
burgerservicenummer sofinummer paspoort paspoortnummer rijbewijs rijbewijsnummer identiteitskaart rijksregisternummer
rijksregister insz numeronational numeroregistrenational pesel peselnumber numerpesel dowodosobisty numerdowodu
paszport prawojazdy personnummer personnr samordningsnummer korkortsnummer personalnumber cpr cprnummer cprnr korekort
fodselsnummer fnr dnummer henkilotunnus hetu sotu ajokortti passi rodnecislo rodnocislo cislopasu cnp
codnumericpersonal oib emso egn amka afm kennitala isikukood asmenskodas personaskods tajszam adoazonosito
szemelyiszam tckimlik tckimlikno tckn kimlikno kimliknumarasi vergino pasaportno инн снилс паспорт номерпаспорта
паспортныеданные серияпаспорта водительскиеправа иин егн マイナンバー 個人番号 パスポート番号 運転免許証番号 身份证
身份证号 身份证号码 护照 护照号 护照号码 身分證 身分證字號 주민등록번호 주민번호 여권번호 운전면허번호 ppsn ppsnumber
pps ppsno socialinsuranceno taxfilenumber taxfileno tfn driverslicenseno cfcliente nrdowodu seriebuletin cisloop
dowodu numerocpf αριθμοςταυτοτητας
"""

CARD = """
tarjetacredito cartaocredito cislokarty brojkartice numarcard kartesnumurs
cardnumber cardno cardnum cardnr creditcard creditcards creditcardno creditcardnumber creditcardnum creditcardnr
ccnumber ccnum ccno ccnr debitcard debitcardnumber paymentcard paymentcardnumber bankcard bankcardnumber cardpan
primaryaccountnumber cvv cvv2 cvc cvc2 csc cardcvv cardcvc cardcode cardsecuritycode securitycode cccvv cccvc cccsc
cardverification cardverificationvalue cardexpiry cardexpiration cardexp cardexpirydate cardexpirationdate ccexp
ccexpiry ccexpmonth ccexpyear expirydatecard cardlast4 last4digits kreditkarte kreditkartennummer kartennummer
kartennr kartenprufnummer prufziffer cartebancaire cartedecredit numerocarte numerodecarte numerodecartebancaire
cryptogramme tarjeta tarjetadecredito numerotarjeta numerodetarjeta cartadicredito numerocarta cartacredito
numerodacarta cartao cartaodecredito numerocartao numerodocartao creditcardnummer kaartnummer numerkarty
kartakredytowa kreditkort kortnummer kredittkort luottokortti kortinnumero kredikarti kartnumarasi kartno номеркарты
кредитнаякарта банковскаякарта クレジットカード カード番号 クレジットカード番号 信用卡 信用卡号 卡号 银行卡 银行卡号
카드번호 신용카드
"""

BANK = """
kontonumber brojracuna stevilkaracuna cisloucet saskaitosnumeris kontanumurs arvelduskonto
iban ibannumber ibannr bic swiftbic bicswift bankaccount bankaccountno bankaccountnumber accountnumber accountno
accountnum acctnumber acctno acctnum routingnumber routingno abarouting abanumber sortcode bsbnumber clabe
bankdetails banknumber kontonummer kontonr kontoverbindung bankverbindung bankkonto bankleitzahl blz rib
numerodecompte numerocompte comptebancaire cuentabancaria numerodecuenta numerocuenta contobancario contocorrente
numeroconto numerodiconto contabancaria numerodaconta rekeningnummer bankrekening bankrekeningnummer numerkonta
kontobankowe numerrachunku rachunekbankowy bankkontonummer tilinumero bankszamlaszam cislouctu hesapno hesapnumarasi
bankahesabi номерсчета расчетныйсчет 口座番号 银行账号 银行账户 계좌번호
swiftcode biccode
bankbic bankiban bankcode bankacct
"""

CREDENTIAL = """
κωδικος κωδικοςπροσβασης парола lozinka geslo slaptazodis parole parool pincode
password passwords passwd passcode passphrase pwd userpassword newpassword oldpassword confirmpassword
passwordconfirm passwordconfirmation currentpassword repeatpassword passwort passworter kennwort motdepasse mdp
contrasena contrasenia clavedeacceso palavrapasse senha wachtwoord haslo losenord passord adgangskode kodeord
salasana jelszo heslo parola sifre sifreniz пароль パスワード 暗証番号 密码 密碼 비밀번호 accesstoken refreshtoken
authtoken idtoken sessiontoken bearertoken apikey apisecret clientsecret secret secretkey authorization
authorizationheader cookie cookies setcookie jwt otp otpcode onetimepassword onetimecode verificationcode pinnumber
pinnr securityanswer securityquestionanswer secretanswer mfacode twofactorcode totp smscode resettoken passwordtoken
magiclink
"""

IP = """
ip ips ipaddress ipaddresses ipaddr ipv4 ipv6 ipv4address ipv6address clientip clientipaddress remoteip remoteaddr
remoteaddress remotehost visitorip userip useripaddress sourceip srcip xforwardedfor forwardedfor xrealip realip
cfconnectingip trueclientip hostip publicip localip lastip adresseip adresseipv4 ipadresse ipadres ipadress
direccionip indirizzoip enderecoip adresip iposoite ipcim ipadresi ipадрес айпи ipアドレス ip地址 ip주소
"""

MAC = """
mac macaddress macaddr macadresse wifimac bluetoothmac bssid bluetoothaddress wifibssid ethernetmac
"""

COORDINATES = """
latitude longitude lat lng lon latlng latlon latlong lnglat lonlat geopoint geocoordinates geocoords coords coord
coordinate coordinates gps gpscoordinates gpsposition gpslocation geohash geolocation geoposition geolat geolng
geolon geolong breitengrad langengrad koordinaten latitud longitud coordenadas latitudine longitudine coordonnees
breedtegraad lengtegraad szerokoscgeograficzna dlugoscgeograficzna latitudes longitudes широта долгота координаты
緯度 経度 纬度 经度 위도 경도 what3words pluscode
"""

VEHICLE = """
licenseplate licenceplate licenseplatenumber licenceplatenumber numberplate platenumber platenr plateno
registrationplate vehicleregistration vehicleregistrationnumber regplate vin vinnumber vehicleid
vehicleidentificationnumber chassisnumber vehicleserial kennzeichen autokennzeichen kfzkennzeichen fahrgestellnummer
fahrzeugidentnummer plaqueimmatriculation immatriculation plaquedimmatriculation matriculacoche matriculavehiculo
numerodematricula targa targaauto placaveiculo kenteken numerrejestracyjny registreringsnummer regnummer
rekisterinumero rendszam plaka госномер номеравто 車両番号 车牌 车牌号 차량번호
vehiclevin carvin chassisno carplate vehicleplate plate
"""

SIGNATURE = """
signature signatures digitalsignature esignature unterschrift firmadigital biometric biometrics fingerprintscan
voiceprint faceid retinascan facetemplate irisscan biometricid biometricdata voicesample
retinalscan voicerecording dnasequence dna genomeid geneticdata facegeometry palmprint handprint gait
"""

USER_ID = """
userid userids uid customerid customerids customerno customernumber customernr accountid accountids memberid
membershipid membershipnumber memberno membernumber crmid contactid leadid subscriberid personid personaid profileid
loyaltyid loyaltynumber loyaltycard loyaltycardnumber frequentflyernumber employeeid employeenumber staffid
studentid pupilid patientuserid externaluserid externalid internaluserid guestid anonymousid anonid distinctid
deviceid deviceuuid devicefingerprint browserfingerprint fingerprint fingerprintid browserid cookieid clientidga
gaclientid gauserid idfa idfv gaid aaid androidid advertisingid advertiserid maid hubspotutk hubspotid hutk
mixpanelid amplitudeid amplitudedeviceid klaviyoid intercomid shopifycustomerid salesforceid
stripecustomerid buyerid shopperid ownerid authuserid loggedinuserid userkey userguid useruuid customeruuid
customerkey kundenid kundennummer kundennr kontoid benutzerid nutzerid mitgliedsnummer numeroclient numerodeclient
idutilisateur idusuario usuarioid idcliente numerodecliente numerocliente idutente codicecliente klantid klantnummer
klantnr gebruikersid iduzytkownika idklienta numerklienta kundid kundnummer anvandarid brukerid kundenummer brugerid
kayttajaid asiakasnumero musteriid musterino kullaniciid идпользователя номерклиента idклиента 会員番号 ユーザーid
顧客番号 用户id 会员号 客户编号 회원번호 사용자id advertisingidentifier muid rampid uid2 euid id5 id5id sharedid
pubcid liverampid
"""

CLICK_ID = """
gclid gclids fbclid msclkid dclid gbraid wbraid ttclid twclid lifatid yclid ymclid ga gid gclau gcldc gclaw gclgb
fbp fbc igshid igsh epik sccid scclickid scid rdtcid irclickid clickid clickids clickref awc zanpid cjevent cjdata
tduid vmcid mceid veroid hsenc hsmi mkttok olyencid olyanonid wickedid kx efid skwcid tblci obclid obclickid dicbo
qclid pinid srsltid erid vtid clid gaclid adclickid affclickid affiliateclickid transactionclickid mibextid sfmcid
scref snapclickid redditclickid tiktokclickid linkedinclickid googleclickid facebookclickid bingclickid
microsoftclickid gclidvalue fbclidvalue extclid unbclid
ysclid hstc hssc hsctatracking
"""

SESSION_ID = """
sessionid sessionids sessid phpsessid jsessionid aspsessionid sessionuuid sessionkey sitzungsid idsession idsesion
idsessione gasessionid
sid connectsid
"""
VISITOR_ID = """
visitorid visitorids visitoruuid visitorkey besucherid idvisiteur idvisitante idvisitatore bezoekersid
"""

AGENT = """
useragent useragents ua uastring useragentstring httpuseragent browseruseragent navigatoruseragent agentstring
"""

# --- hipaa only -------------------------------------------------------------------------------------------------------

PLACE = """
city cities cityname town townname village ort ortschaft stadt wohnort ville commune ciudad poblacion localidad
municipio citta comune localita cidade localidade concelho freguesia plaats woonplaats gemeente miasto miejscowosc
gmina stad poststed poststad postort bynavn kaupunki postitoimipaikka varos mesto obec oras localitate sehir ilce
πολη город населенныйпункт місто 市区町村 城市 市 区 区县 도시 시군구 county countyname district landkreis gemeinde
municipality borough precinct parish neighborhood neighbourhood suburb locality sublocality quartier arrondissement
departement provincia comarca barrio bairro comuni wijk powiat kommun kommune metro metroarea metrocode dma geocity
ipcity census censustract geocode
precinctname districtname suburbname villagename boroughname parishname
"""

RECORD = """
mrn mrnumber medicalrecord medicalrecordno medicalrecordnumber medicalrecordnr patientid patientno patientnumber
patientnr patientidentifier chartnumber chartno hospitalnumber hospitalid caseid casenumber encounterid
encounternumber visitnumber admissionnumber admissionid prescriptionnumber rxnumber specimenid accessionnumber labid
patientennummer fallnummer medicalrecno medrecno chartid chartnum ptid ptno ptnumber prescriptionid rxno rxnum rxid
specimennumber labnumber accessionid imagingid
"""

HEALTH_PLAN = """
claimnumber claimid claimno insuranceclaimnumber healthplan healthplanid healthplannumber healthplanbeneficiary
beneficiaryid beneficiarynumber insuranceid insurancenumber insuranceno insurancepolicy insurancepolicynumber
insurancememberid policynumber policyno policyid groupnumber subscribernumber medicare medicareid medicarenumber
medicaid medicaidid medicaidnumber mbi hicn versicherungsnummer krankenkassennummer numerodemutuelle
policyholderid policyholdernumber groupno hcn healthcardno planmemberid
"""

LICENCE = """
license licence licensenumber licencenumber licenseno licenceno licensenr certificatenumber certificateno
certificate certificationnumber npi npinumber deanumber dea professionallicense medicallicense statelicense
certno certificateid certid licno licnumber licenseid licenceid registrationnumber registrationno regno dlno
"""

DEVICE = """
udid pacemakerserial implantserialnumber serial serialnumber serialno serialnr deviceserial deviceserialnumber
devicenumber deviceidentifier imei imeinumber imsi meid iccid udi uniquedeviceidentifier implantid implantserial
pacemakerid hardwareid machineid seriennummer geratenummer numerodeserie devicesn sn pumpserial pumpid cgmserial cgmid
hearingaidserial hearingaidid wearableid equipmentid equipmentserial insulinpumpserial monitorserial
"""

ACCOUNT = """
account accounts accountname accountref accountreference acct konto compte cuenta conto conta rekening
loannumber loanno loanid accountnr
"""

PHOTO = """
photo photos photourl photograph picture pictures pictureurl profilepicture profilephoto profileimage profilepic
avatar avatars avatarurl selfie portrait headshot imageofface facialimage faceimage facephoto fullfacephoto userphoto
patientphoto foto fotos profilbild passbild photoid headshoturl imagebase64 selfieimage selfieurl xrayimage
patientimage photobase64 facialfeatures facescan faceprint
"""

WEBSITE = """
website websiteurl homepage homepageurl personalurl personalwebsite personalpage profileurl profilelink blogurl
linkedin linkedinprofile facebook facebookurl facebookpage instagram instagramurl twitter twitterurl xing xingprofile
socialprofile socialprofileurl sitioweb paginaweb siteweb sitoweb strony webseite
portalurl patienturl personalsite patientportalurl
"""

EMPLOYER = """
employer employername arbeitgeber employeur empleador datoredilavoro werkgever pracodawca arbetsgivare placeofwork
workplace
"""

DATE = """
date dates datetime admissiondate admitdate dischargedate dateofadmission dateofdischarge dateofdeath deathdate
deceaseddate dateofservice servicedate appointment appointmentdate appointmenttime appointmentdatetime visitdate
dateofvisit surgerydate treatmentdate diagnosisdate onsetdate startdate enddate duedate expecteddate lmpdate
lastperiod prescriptiondate refilldate enrollmentdate eventdate bookingdate arrivaldate departuredate checkin
checkindate checkoutdate datum termin terminuhrzeit fecha dato pvm paivamaara tarih дата 日付 日期 날짜 rendezvous
cita appuntamento afspraak wizyta
"""

AGE = """
age ages ageyears ageinyears patientage userage customerage alter lebensalter edad idade leeftijd wiek alder ika yas
возраст 年齢 年龄 나이
"""

FREE_TEXT = """
message messages msg messagetext messagebody comment comments commenttext note notes feedback feedbacktext question
questions enquiry inquiry enquirytext reason reasonforvisit complaint complaints chiefcomplaint symptom symptoms
diagnosis diagnoses condition conditions medicalhistory medication medications allergies allergy treatment remarks
remark bio biography aboutme aboutyou freetext textarea additionalinfo additionalinformation otherinfo moreinfo
howcanwehelp yourmessage review reviewtext testimonial searchterm searchterms searchquery searchtext search
sitesearch query q request anliegen nachricht nachrichten ihrenachricht kommentar kommentare bemerkung bemerkungen
notiz notizen anmerkung anmerkungen frage mitteilung commentaire commentaires remarque remarques demande mensaje
mensajes comentario comentarios observaciones pregunta notas messaggio messaggi commento commenti domanda richiesta
mensagem mensagens observacoes duvida bericht berichten opmerking opmerkingen vraag toelichting wiadomosc wiadomosci
komentarz uwagi pytanie meddelande kommentarer fraga melding viesti kommentti uzenet megjegyzes zprava poznamka
mesaj yorum aciklama сообщение комментарий комментарии вопрос примечание メッセージ お問い合わせ お問い合わせ内容
備考 コメント 留言 备注 评论 消息 메시지 문의내용 chatmessage chattext transcript answertext inputtext usertext
usermessage emailbody smsbody
"""
