"""What the evidence means, as plain tables: codes, exception classes, statuses and, last of all, words.

No logic here. Names stand in the form that `flat()` gives: lower case, letters and digits only, without a final
"exception", "error" or "fault". So one entry covers RATE_LIMIT_EXCEEDED, rateLimitExceeded and rate-limit-exceeded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prunella.core.records import Actor


def _by_name(groups: Mapping[str, str]) -> dict[str, str]:
    return {name: kind for kind, names in groups.items() for name in names.split()}


FACTS: Final[Mapping[str, tuple[bool, Actor, str]]] = {
    "auth.expired": (True, Actor.SYSTEM, "Refresh the access token, then repeat the call once."),
    "auth.invalid": (False, Actor.OWNER, "Refreshing cannot help: have the account reconnected or the key replaced."),
    "auth.permission": (False, Actor.OWNER, "The caller is known but not allowed: ask for the scope, role or share."),
    "rate_limit.window": (True, Actor.SYSTEM, "Wait as long as the service asks, then go on at a lower rate."),
    "rate_limit.quota": (True, Actor.SYSTEM, "Park the calls until the quota is renewed or the plan is raised."),
    "network.timeout": (
        True,
        Actor.SYSTEM,
        "Back off and try again; a write may have arrived, so look before repeating.",
    ),
    "network.dns": (True, Actor.SYSTEM, "Back off and try again; if it lasts, check the host name and the resolver."),
    "network.connection": (True, Actor.SYSTEM, "Back off and try again; nobody answered or the line broke."),
    "network.tls": (False, Actor.OPERATOR, "Check certificate, host name and protocol; trying again changes nothing."),
    "network.server": (True, Actor.PROVIDER, "Back off, try again and watch the provider's status page."),
    "network.contention": (True, Actor.SYSTEM, "Try again shortly: a lock or a pool slot was taken by somebody else."),
    "data.validation": (False, Actor.DATA_OWNER, "Correct the record: the service does not take it as it is."),
    "data.conflict": (False, Actor.SYSTEM, "Read what is there, then update it instead of creating it again."),
    "data.not_found": (False, Actor.DATA_OWNER, "Check the reference: the record is not or no longer there."),
    "data.too_large": (False, Actor.DEVELOPER, "Send less at once: split, page or shorten."),
    "data.bad_response": (False, Actor.DEVELOPER, "Compare the answer with the contract: it could not be read."),
    "data.business": (False, Actor.DATA_OWNER, "The service understood and declined: settle the case itself first."),
    "config": (False, Actor.DEVELOPER, "Correct the set-up of the call: address, method, version, name or setting."),
    "bug": (False, Actor.DEVELOPER, "Correct the code: the call was never made properly."),
    "billing": (False, Actor.OWNER, "Settle the account with the provider."),
    "policy": (False, Actor.OPERATOR, "Ask the provider or the firewall's owner why the call is blocked."),
    "cancelled": (False, Actor.SYSTEM, "Nothing to repair: the caller gave up."),
    "resource": (False, Actor.OPERATOR, "Free disk, memory or file handles on the machine that failed."),
    "unclassified": (False, Actor.OPERATOR, "Look at the evidence and decide; no rule knows this failure."),
}
"""Kind -> (would the same call succeed later, who moves next, what to do)."""

CODES: Final = _by_name(
    {
        "auth.expired": (
            "invalidtoken tokenexpired expiredtoken accesstokenexpired invalidsessionid "
            "invalidauthenticationtoken unauthorized authenticationfailed expiredaccesstoken idtokenexpired "
            "sessionexpired requestexpired jwtexpired expiredauthenticationtoken pgrst303 tokenhasexpired"
        ),
        "auth.invalid": (
            "invalidgrant invalidclient unauthorizedclient inactiveuser badrefreshtoken invalidauth tokenrevoked "
            "accountinactive notauthed invalidlogin invalidapikey invalidcredentials badcredentials "
            "signaturedoesnotmatch authenticationrequired invalidaccesskeyid invalidclienttokenid "
            "unrecognizedclient missingauthenticationtoken auth pgrst301 pgrst302 wrongpass noauth loginrequired "
            "interactionrequired consentrequired incompletesignature apikeyexpired apikeyinvalid keyinvalid "
            "authentication accessdeniedinvalidtoken tokeninvalid invalidsignature invalidjwt invalidaccesstoken "
            "incorrectapikey invalidkey authorizationrequired userauthentication"
        ),
        "auth.permission": (
            "insufficientscope insufficientpermissions missingscopes missingscope notinchannel restrictedaction "
            "insufficientaccessorreadonly insufficientaccess accessdenied permissiondenied "
            "authorizationrequestdenied forbidden unauthorizedoperation notauthorized accessdeniedforuser "
            "nopermission eacces eperm noperm permission authorization insufficientprivileges forbiddenoperation "
            "notallowedtokentype ekmaccessdenied cannotaccessresource insufficientaccessoncrossreferenceentity "
            "operationnotpermitted permissionsdenied erroraccessdenied"
        ),
        "rate_limit.window": (
            "ratelimitexceeded toomanyrequests ratelimit ratelimits ratelimited throttled throttling throttle "
            "throttledrequest requestlimitexceeded slowdown userratelimitexceeded resourceexhausted "
            "requestthrottled bandwidthlimitexceeded provisionedthroughputexceeded limitexceeded "
            "requestthrottledrequest toomanycalls concurrentrequestlimitexceeded enhanceyourcalm "
            "activitylimitreached transactioninprogressexceeded apithrottled requestratetoolarge "
            "priorrequestnotcomplete ec2throttled applicationthrottled erequestslimit"
        ),
        "rate_limit.quota": (
            "insufficientquota quotaexceeded dailylimitexceeded overquerylimit overdailylimit "
            "storagequotaexceeded messagelimitexceeded servicequotaexceeded storagelimitexceeded "
            "monthlylimitexceeded usagelimitexceeded creditlimitexceeded quotareached"
        ),
        "network.timeout": (
            "etimedout esockettimedout econnaborted timeout timedout gatewaytimeout deadlineexceeded "
            "requesttimeout requesttimedout querytimeout underrheaderstimeout underrbodytimeout "
            "underrconnecttimeout errsockettimeout operationtimedout operationtimeout connecttimeout readtimeout "
            "esocket"
        ),
        "network.dns": "enotfound eaiagain eainodata eainoname eaifail dnsfailure errnamenotresolved",
        "network.connection": (
            "econnreset econnrefused epipe ehostunreach enetunreach enetdown ehostdown enotconn eaddrnotavail "
            "underrsocket network connectionclosed connectionrefused connectionreset errnetwork "
            "errconnectionrefused enetreset econnection pgrst000 pgrst001 pgrst002 eprotocol "
            "errstreamprematureclose protocolconnectionlost"
        ),
        "network.tls": (
            "depthzeroselfsignedcert errtlscertaltnameinvalid selfsignedcertinchain unabletoverifyleafsignature "
            "certhasexpired unabletogetissuercert unabletogetissuercertlocally certuntrusted certnotyetvalid "
            "certrevoked certsignaturefailure errtlshandshaketimeout eproto errsslwrongversionnumber"
        ),
        "network.server": (
            "internalserver internal internalfailure serviceunavailable unavailable fatal badgateway server api "
            "serverunavailable temporarilyunavailable backend overloaded overload serverisbusy serverbusy "
            "maintenance undermaintenance serviceoffline unknownserver soapserver dataloss readonly loading "
            "masterdown clusterdown upstream ekmserviceunavailable servicetemporarilyunavailable "
            "serviceinternal engineoverloaded circuitbreakeropen"
        ),
        "network.contention": (
            "locktimeout unabletolockrow idempotencykeyinuse aborted tryagain busy transactionconflict "
            "transactioncanceled concurrentmodification pgrst003 eagain ebusy deadlock writeconflict "
            "erlockdeadlock erlockwaittimeout ertoomanyconnections resourceinuse conflictingoperation "
            "operationaborted sqlitebusy sqlitelocked poolexhausted lockacquisition"
        ),
        "data.validation": (
            "validation invalidrequest schemamismatch validationfailed parametermissing parameterinvalid "
            "parameterinvalidempty amounttoosmall amounttoolarge usererrors requiredfieldmissing "
            "fieldcustomvalidation invalidemailaddress notext invalidargument invalidargs failedprecondition "
            "outofrange pgrst102 missingfield invalidparameter invalidparametervalue missingparameter badrequest "
            "blank invalid invalidvalue unprocessableentity invalidphone stringtoolong invalidpayload "
            "invalidjson malformed malformedrequest invalidinput numberoutsidevalidrange badvalue typemismatch "
            "fieldintegrity pgrst100 invaliddata missingrequiredparameter baduserinput malformedquery "
            "graphqlvalidationfailed invalidfieldvalue jsonparse parse invalidcrossreferencekey invalidblocks "
            "invalidcountry"
        ),
        "data.conflict": (
            "duplicatevalue duplicatesdetected resourcealreadyexists idempotency taken alreadyexists conflict "
            "chargealreadyrefunded conditionalcheckfailed duplicate duplicatekey resourceconflict "
            "entityalreadyexists etagmismatch preconditionfailed alreadyinchannel nametaken versionconflict "
            "versionmismatch optimisticlock staleobject erdupentry contactexists bucketalreadyexists "
            "uniqueviolation channelalreadyexists staleobjectstate eexist"
        ),
        "data.not_found": (
            "notfound objectnotfound channelnotfound isarchived entityisdeleted pgrst116 nosuchkey "
            "resourcemissing nosuchbucket resourcenotfound usernotfound messagenotfound nosuchentity "
            "itemnotfound enoent zeroresults recordnotfound erroritemnotfound requestresourcenotfound "
            "unknownmessage unknownchannel filenotfound gone"
        ),
        "data.too_large": (
            "requesttoolarge payloadtoolarge entitytoolarge messagetoolong msgtoolong msgtoobig emsgsize "
            "requestentitytoolarge contextlengthexceeded maxtokensexceeded stringtruncation uploadtoolarge "
            "toolarge maxmessagelengthexceeded batchrequesttoolong filetoolarge documenttoolarge"
        ),
        "data.bad_response": "badresponse invalidresponse hpeinvalidconstant unexpectedresponse errbadresponse",
        "data.business": (
            "carddeclined expiredcard insufficientfunds incorrectcvc processing outofstock incorrectnumber "
            "balanceinsufficient payoutsnotallowed insufficientstock cardvelocityexceeded lostcard stolencard "
            "incorrectzip periodlocked paymentintentauthenticationfailure transactionrefused instrumentdeclined "
            "invalidcvc"
        ),
        "config": (
            "unsupportedgranttype unsupportedresponsetype invalidscope redirecturimismatch invalidredirecturi "
            "urlinvalid unsupportedapiversion invalidfield invalidtype unknownmethod noservice unimplemented "
            "pgrst202 pgrst204 pgrst200 pgrst106 pgrst201 methodnotallowed methodnotsupported "
            "unsupportedmediatype invalidaction invalidtarget undefinedfield invalidchannel accessnotconfigured "
            "servicedisabled nosuchdatabase apinotenabled invalidversion modelnotfound unknownaction "
            "versionnotsupported invalidapiversion functiondoesnotexist resourceunknown deprecatedendpoint "
            "einval errinvalidurl enoprotoopt ernosuchtable erbadfield invalidnamespace methoddeprecated"
        ),
        "bug": "errinvalidargtype errunhandledrejection errassertion",
        "billing": (
            "shopinactive paymentrequired billingdisabled accountsuspended billingnotactive "
            "billinghardlimitreached subscriptioninactive subscriptionrequired trialexpired optinrequired "
            "paymentoverdue invoiceoverdue teaminactive billingnotenabled creditbalancetoolow accountfrozen "
            "subscriptionexpired"
        ),
        "policy": (
            "ipnotallowed ipaddressnotallowed blocked accessblocked orgpolicyviolation contentpolicyviolation "
            "requestblocked countryblocked contentfilter unsupportedcountryregionterritory conditionalaccess"
        ),
        "cancelled": "aborterr cancelled canceled ecanceled errcanceled requestcancelled clientclosedrequest",
        "resource": "enospc emfile enfile enomem edquot outofmemory storage oom",
    }
)
"""Flat code -> kind; OAuth, gRPC, errno, PostgREST and the services' own names side by side."""

OWNER_MUST_ACT: Final = frozenset({"insufficientquota", "storagequotaexceeded", "storagelimitexceeded"})
"""Codes of a quota that no waiting renews."""

SERVICE_CODES: Final[Mapping[str, Mapping[str, str]]] = {
    "cloudflare": _by_name(
        {
            "rate_limit.window": "1015",
            "policy": "1005 1006 1007 1008 1009 1010 1012 1020 1106",
            "network.dns": "1000 1001 1016",
            "config": "1003 1004 1014",
        }
    ),
    "quickbooks": _by_name(
        {
            "auth.expired": "3200 003200",
            "auth.permission": "3100 003100",
            "rate_limit.window": "3001 003001",
            "data.conflict": "6240 5010",
            "data.not_found": "610",
            "data.validation": "2010 2020 2500 6000",
            "data.business": "6210",
        }
    ),
    "smtp": _by_name(
        {
            "rate_limit.window": "421 450 451 452",
            "auth.invalid": "530 534 535",
            "data.not_found": "550 551 553",
            "data.too_large": "552",
            "policy": "554",
        }
    ),
    "ftp": _by_name(
        {"network.server": "421", "network.connection": "425 426", "auth.invalid": "530", "resource": "452"}
    ),
    "twilio": _by_name(
        {
            "auth.invalid": "20003",
            "rate_limit.window": "20429 14107",
            "data.not_found": "20404",
            "data.validation": "21211 21212 21214 21604 21606",
            "data.business": "21610 21614",
            "data.too_large": "21617",
        }
    ),
    "grpc": _by_name({"auth.invalid": "unauthenticated", "network.server": "unknown", "config": "unimplemented"}),
    "oauth": _by_name({"config": "invalidrequest invalidscope", "auth.permission": "accessdenied"}),
    "zoom": _by_name({"auth.expired": "124", "data.not_found": "1001 3001", "data.validation": "300"}),
    "slack": _by_name({"auth.invalid": "invalidtoken tokenexpired", "config": "invalidchannel"}),
    "stripe": _by_name({"data.business": "authenticationrequired"}),
    "telegram": _by_name({"rate_limit.window": "429", "data.not_found": "400"}),
    "whatsapp": _by_name({"rate_limit.window": "130429 131056", "auth.expired": "190"}),
    "facebook": _by_name({"rate_limit.window": "4 17 32 613", "auth.expired": "190", "auth.permission": "10 200"}),
}
"""Codes that mean this only from this service or source; asked before `CODES`."""

SQLSTATES: Final = _by_name(
    {
        "network.timeout": "57014 HYT00 HYT01",
        "network.contention": "53300 55P03 57P05 55006",
        "network.server": "57P01 57P02 57P03 57P04 25006 53400",
        "resource": "53000 53100 53200 58030",
        "auth.permission": "42501",
        "data.conflict": "23505 21000",
        "data.too_large": "22001 54000",
    }
)
"""Five characters (PostgreSQL manual, appendix A); asked before the class."""
SQLSTATE_CLASSES: Final = _by_name(
    {
        "network.connection": "08",
        "network.contention": "40 55",
        "resource": "53 58",
        "network.server": "57 XX HV",
        "auth.invalid": "28",
        "data.validation": "22 23 44 P0",
        "data.conflict": "21 27",
        "data.too_large": "54",
        "config": "0A 25 26 34 3D 3F 42 F0",
        "data.not_found": "02 20",
    }
)
"""First two characters of a SQLSTATE -> kind."""

EXCEPTIONS: Final = _by_name(
    {
        "auth.invalid": (
            "authentication nocredentials partialcredentials smtpauthentication "
            "invalidauthorizationspecification invalidpassword credentialretrieval"
        ),
        "auth.permission": "permission insufficientprivilege permissiondenied",
        "rate_limit.window": "ratelimit toomanyrequests throttling resourceexhausted",
        "network.timeout": (
            "timeout connecttimeout readtimeout writetimeout servertimeout connectiontimeout sockettimeout "
            "apitimeout headerstimeout bodytimeout deadlineexceeded querycanceled proxytimeout "
            "serverselectiontimeout"
        ),
        "network.dns": "gai nameresolution unknownhost clientconnectordns",
        "network.connection": (
            "connection connectionreset connectionrefused connectionaborted brokenpipe remotedisconnected "
            "chunkedencoding connect read write close protocol serverdisconnected clientos clientconnector "
            "clientpayload newconnection maxretry proxy remoteprotocol network transport apiconnection "
            "incompleteread ssleof sslzeroreturn connectiondoesnotexist connectionfailure interface "
            "endpointconnection autoreconnect operational connectionclosed clientconnection "
            "websocketconnectionclosed socket"
        ),
        "network.tls": (
            "ssl sslcertverification certificate clientconnectorcertificate clientssl clientconnectorssl sslhandshake"
        ),
        "network.server": (
            "serviceunavailable internalserver readonly busyloading crashshutdown cannotconnectnow adminshutdown "
            "readonlysqltransaction internal"
        ),
        "network.contention": (
            "pooltimeout deadlockdetected serializationfailure locknotavailable toomanyconnections aborted"
        ),
        "data.validation": (
            "validation data notnullviolation checkviolation foreignkeyviolation numericvalueoutofrange "
            "invaliddatetimeformat invalidtextrepresentation invalidoperation unicodedecode unicodeencode "
            "invalidtransition illegaltransition invalidargument"
        ),
        "data.conflict": (
            "uniqueviolation duplicatekey integrity staledata conflict alreadyexists fileexists exclusionviolation"
        ),
        "data.not_found": "filenotfound notfound doesnotexist noresultfound smtprecipientsrefused nosuchkey",
        "data.too_large": "stringdatarighttruncation linetoolong",
        "data.bad_response": (
            "jsondecode decoding contenttype parse responsevalidation contentdecoding badstatusline xmlsyntax"
        ),
        "config": (
            "unsupportedprotocol missingschema invalidschema invalidurl modulenotfound import programming "
            "undefinedtable undefinedcolumn undefinedfunction syntax invalidcatalogname invalidcolumnreference "
            "notsupported toomanyredirects nosuchmodule unimplemented"
        ),
        "bug": (
            "type attribute key index lookup zerodivision arithmetic overflow assertion recursion notimplemented "
            "unboundlocal name value runtime range reference stopiteration nullpointer nullreference "
            "illegalstate"
        ),
        "cancelled": "cancelled abort keyboardinterrupt",
        "resource": "memory diskfull outofmemory",
    }
)
"""Flat class name, without its module -> kind."""

MODULE_EXCEPTIONS: Final[Mapping[str, str]] = {
    "sqlalchemy.timeout": "network.contention",
    "sqlalchemy.disconnection": "network.connection",
    "psycopg_pool.timeout": "network.contention",
}
"""First part of the module and flat class name -> kind; asked before `EXCEPTIONS`."""

STATUSES: Final[Mapping[int, tuple[str, float]]] = {
    401: ("auth.expired", 0.95),
    403: ("auth.permission", 0.95),
    429: ("rate_limit.window", 0.95),
    408: ("network.timeout", 0.90),
    **dict.fromkeys((500, 502, 503), ("network.server", 0.90)),
    504: ("network.timeout", 0.90),
    **dict.fromkeys((400, 422), ("data.validation", 0.85)),
    **dict.fromkeys((419, 440, 498), ("auth.expired", 0.80)),
    **dict.fromkeys((407, 495, 496, 511), ("auth.invalid", 0.80)),
    **dict.fromkeys((424, 425, 520, 527, 529), ("network.server", 0.80)),
    **dict.fromkeys((444, 521, 523), ("network.connection", 0.80)),
    **dict.fromkeys((522, 524, 598, 599), ("network.timeout", 0.80)),
    **dict.fromkeys((525, 526), ("network.tls", 0.80)),
    423: ("network.contention", 0.60),
    530: ("network.dns", 0.70),
    **dict.fromkeys((404, 410), ("data.not_found", 0.80)),
    **dict.fromkeys((409, 412), ("data.conflict", 0.80)),
    **dict.fromkeys((413, 414, 431, 494), ("data.too_large", 0.85)),
    416: ("data.validation", 0.70),
    **dict.fromkeys((301, 302, 307, 308), ("config", 0.60)),
    **dict.fromkeys((405, 406, 415, 417, 426, 428, 501, 505), ("config", 0.80)),
    402: ("billing", 0.75),
    451: ("policy", 0.85),
    499: ("cancelled", 0.85),
    507: ("resource", 0.80),
    509: ("rate_limit.quota", 0.80),
}
"""HTTP status -> kind and confidence; the figures of document B for the statuses that it names."""

PHRASES: Final = {
    kind: tuple(phrases.split("; "))
    for kind, phrases in {
        "rate_limit.window": (
            "rate limit; rate-limit; ratelimit; too many requests; throttl; rate exceeded; slow down; "
            "abuse detection; requests per ; zu viele anfragen; trop de requêtes; demasiadas solicitudes; "
            "muitas solicitações; слишком много запросов; リクエストが多すぎ; 请求过于频繁"
        ),
        "rate_limit.quota": "quota; daily limit; monthly limit",
        "network.dns": (
            "name resolution; getaddrinfo; name or service not known; nodename nor servname; resolve host; "
            "dns resol; failed to resolve; could not resolve; no such host; unknown host; unknownhost"
        ),
        "network.tls": (
            "certificate verify; certificate_verify; self-signed cert; self signed cert; "
            "certificate has expired; ssl handshake; tls handshake; wrong_version_number; "
            "local issuer certificate; altnames"
        ),
        "network.contention": (
            "deadlock; lock timeout; database is locked; could not obtain lock; could not serialize; "
            "lock wait; too many connections; too many clients; connection slots; queuepool limit; "
            "connection pool; contention; currently being modified; in progress; in-progress; unable to lock"
        ),
        "network.timeout": (
            "timed out; timeout; time-out; deadline exceeded; deadline expired; zeitüberschreitung; "
            "tempo limite; délai d'attente; délai dépassé; tiempo de espera; время ожидания; タイムアウト; 超时"
        ),
        "network.connection": (
            "connection refused; connection reset; connection aborted; connection closed; "
            "connection was closed; closed the connection; connection has been closed; connection broken; "
            "broken pipe; socket hang up; no route to host; unreachable; server disconnected; "
            "remote end closed; fetch failed; failed to connect; could not connect; unable to connect; "
            "cannot connect; connection lost; connection error; network; connexion refusée; "
            "conexión rechazada; не удалось подключиться; verbindung abgelehnt; verbindung fehlgeschlagen; "
            "接続できません; 连接失败"
        ),
        "network.server": (
            "internal server error; internal error; service unavailable; temporarily unavailable; "
            "bad gateway; maintenance; be right back; server error; overloaded; try again later; "
            "interner serverfehler; wartung; erreur interne; error interno; erro interno; mantenimiento; "
            "внутренняя ошибка; サーバーエラー"
        ),
        "auth.expired": (
            "unauthorized; unauthenticated; token expired; expired token; token has expired; "
            "token is expired; jwt expired; session expired; session has expired; token abgelaufen; "
            "jeton expiré; token expirado"
        ),
        "auth.invalid": (
            "bad credentials; invalid credential; invalid api key; incorrect api key; authentication failed; "
            "revoked; invalid username; login incorrect; locate credentials; not authenticated; "
            "please sign in; please log in; invalid_token; wrong password; invalid password; "
            "ungültige anmeldedaten; identifiants invalides; credenciales inválidas"
        ),
        "auth.permission": (
            "permission denied; access denied; not accessible by; insufficient permission; "
            "insufficient privilege; insufficient access; required scope; missing scope; forbidden; "
            "row-level security; not authorized to; not have permission; not allowed to; keine berechtigung; "
            "accès refusé; acceso denegado; acesso negado"
        ),
        "data.conflict": (
            "already exists; already been taken; already in use; already been; duplicate; unique constraint; "
            "version mismatch; stale ; existe déjà; ya existe; já existe; bereits vorhanden; "
            "existiert bereits; уже существует; 既に存在; 已存在"
        ),
        "data.not_found": (
            "not found; no such file; nicht gefunden; introuvable; no encontrad; não encontrad; не найден; "
            "no longer exists; 見つかりません; 未找到"
        ),
        "data.too_large": (
            "too large; too long; larger than max; exceeds the maximum size; maximum size; zu groß; "
            "trop volumineux; demasiado grande"
        ),
        "data.bad_response": (
            "unexpected mimetype; extra data: line; expecting value: line; unexpected token <; "
            "unexpected end of json; not well-formed; invalid json response"
        ),
        "data.business": (
            "declined; insufficient funds; insufficient stock; out of stock; not enough stock; "
            "period is locked; period is closed; credit limit"
        ),
        "data.validation": (
            "validation; invalid; schema; required; must be; not a valid; can't be blank; usererrors; "
            "pflichtfeld; ungültig; obligatoire; obligatorio; obrigatório; обязательн; "
            "必須; 正しくありません; 无效; 必填"
        ),
        "billing": "payment required; subscription; unpaid; past due; overdue; billing",
        "policy": (
            "request blocked; been blocked; blocked by; attention required; captcha; security policy; "
            "ip address is not allowed; not allowed from your"
        ),
        "config": (
            "api version; environment variable; unsupported grant; no such column; unknown column; "
            "schema cache; no module named; method not allowed"
        ),
        "resource": (
            "no space left; disk is full; disk full; out of memory; too many open files; cannot allocate memory"
        ),
        "cancelled": "operation was aborted; client closed request; was cancelled; was canceled",
    }.items()
}
"""Kind -> lower-case phrases: the last resort, and the choice among the meanings of one status."""

STATUS_MAY_MEAN: Final[Mapping[int, tuple[str, ...]]] = {
    400: ("rate_limit.window", "data.conflict", "data.too_large", "auth.expired", "auth.invalid", "config"),
    422: ("rate_limit.quota", "data.conflict", "data.too_large", "data.business"),
    402: ("data.business",),
    403: ("rate_limit.quota", "rate_limit.window", "policy", "billing", "auth.invalid"),
    404: ("config",),
    409: ("network.contention", "data.business"),
    423: ("policy", "billing"),
    503: ("rate_limit.window", "rate_limit.quota"),
}
"""Status -> other kinds it is used for, in the order in which their words are looked for."""

SHARPER: Final[Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "network.server": (
        *((kind, PHRASES[kind]) for kind in ("network.dns", "network.tls", "network.contention", "network.timeout")),
        ("network.connection", PHRASES["network.connection"]),
    ),
    "network.connection": (
        ("auth.invalid", ("password authentication failed", "authentication failed for", "access denied for user")),
        ("config", ("unknown database", '" does not exist', "no such table")),
        ("network.server", ("starting up", "shutting down", "read-only", "read only")),
        *(
            (kind, PHRASES[kind])
            for kind in ("resource", "network.dns", "network.tls", "network.contention", "network.timeout")
        ),
    ),
    "network.timeout": (("network.contention", ("queuepool limit", "connection pool")),),
    "network.tls": (("network.connection", ("eof occurred", "closed unexpectedly")),),
    "rate_limit.window": (
        ("data.too_large", ("larger than max",)),
        ("rate_limit.window", ("per minute", "per_minute", "per min", "per second", "secondly")),
        ("rate_limit.quota", (*PHRASES["rate_limit.quota"], "daily", "per day", "monthly")),
    ),
    "rate_limit.quota": (("rate_limit.window", ("per minute", "per_minute", "per min", "per second")),),
    "auth.expired": (("auth.invalid", PHRASES["auth.invalid"]),),
    "data.conflict": (("data.validation", ("not null", "not-null", "foreign key", "check constraint")),),
    "bug": (
        ("config", ("environment variable",)),
        ("network.connection", ("fetch failed", "connection refused", "connection reset")),
        ("data.bad_response", ("json",)),
    ),
}
"""Kind -> what the text may make of it, first match wins."""

_WORDS: Final = (
    "resource cancelled rate_limit.window rate_limit.quota network.dns network.tls network.contention auth.invalid "
    "auth.permission network.timeout data.too_large data.conflict data.business network.server auth.expired "
    "data.bad_response config policy data.not_found network.connection data.validation billing"
)
WORDS: Final = tuple(_WORDS.split())
"""Kinds whose phrases are tried when nothing else speaks, in this order."""
WORD_CONFIDENCE: Final = {"rate_limit": 0.95, "network": 0.90, "data": 0.85, "auth": 0.80}
"""Category -> confidence of words alone; the first three are the figures of document B."""
