package oidc

import (
	"regexp"
	"strings"
)

// foreignNames are other products' names for our options, so that somebody who migrates is told the name here, or the page to read. A row has
// the answer and the names, in lower case and without word separators. The names come from traefik-oidc-auth, traefikoidc, oauth2-proxy, both projects called
// traefik-forward-auth, Traefik's forwardAuth, plugins that check JWTs, and OAuth libraries. “x” stands for option x.
const foreignNames = `
“issuer” < provider providerurl providerissuer oidcissuer oidcissuerurl issuerurl provideruri providersoidcissuerurl keycloakurl keycloakrealm oidcuri authority discovery discoveryurl oidcdiscoveryurl wellknown wellknownurl metadataurl serverurl realm url validissuer baseurl tenantid azuretenant providersoidcissuer providers
“clientId” < applicationid appid providersoidcclientid
“clientSecret” < providersoidcclientsecret clientsecretfile clientsecretvalue clientpassword
“clientKey” < clientjwtprivatekey clientjwtprivatekeyid jwtkey jwtkeyfile clientassertionprivatekey pubjwkurl
“redirectUrl” < callbackuri callbackurl callback callbackpath redirecturi redirectpath urlpath authhost proxyprefix relativeredirecturl
“loginUrl” < loginuri loginpath signinurl ssologinurl
“logoutUrl” < logouturi logoutpath signouturl signout
“postLoginRedirectUrl” < postloginredirecturi defaultredirecturl homeurl
“postLogoutRedirectUrl” < postlogoutredirecturi logoutredirect postlogouturl validpostlogoutredirecturis logoutredirecturl backendlogouturl
“postLoginRedirectUrl”; where a sign-in ends is on the page's own host < validpostloginredirecturis whitelistdomain whitelistdomains
“endpoints.authorization” < authorizationurl authorizationendpoint authurl authorizeurl authendpoint oidcauthorizationurl
“endpoints.token” < tokenurl tokenendpoint redeemurl oidctokenurl accesstokenurl
“oAuthClientCredentials.url” < oauthclientcredentialstokenurl oauthclientcredentialstokenendpoint oauthclientcredentialsissuer
“jwt.jwksUrl” < jwtclientconfigurl
“endpoints.jwks” < jwksuri oidcjwksurl certsurl keysurl
“endpoints.userinfo” < userinfourl userinfoendpoint profileurl validateurl
“endpoints.introspection” or “oAuthIntrospection.clientConfig.url” < introspectionurl introspectionendpoint
“endpoints.endSession” < oidcendsessionurl endsessionendpoint endsessionurl revocationendsession
“endpoints.revocation” < revocationurl revocationendpoint
“session.secret” < sessionencryptionkey encryptionkey cookiesecret cookiesecretfile secretkey sessionkey sessionsecret signingkey encryptionsecretfile
“session.domain” < cookiedomain cookiedomains sessioncookiedomain
“session.name” < cookiename cookienameprefix cookieprefix usercookiename tokencookiename sessioncookiename
“session.expiry” < cookieexpire lifetime sessionmaxage sessioncookiemaxage sessionlifetime sessionduration sessionttl sessiontimeout ttl maxrefreshtokenageseconds
“session.refresh”, on by itself < cookierefresh refreshgraceperiodseconds tokenrenewalthreshold refreshtoken
“session.secure”; true, or a “redirectUrl” with https, says that the site is https, whatever Traefik saw < forcehttps insecurecookie cookiesecure sessioncookiesecure ssl httpsonly
“session.sameSite” < cookiesamesite sessioncookiesamesite
“session.httpOnly” < cookiehttponly sessioncookiehttponly
“session” < sessioncookie cookie cookies
“session.path” < cookiepath sessioncookiepath
“stateCookie.name” < csrfcookiename cookiecsrfname
“stateCookie.maxAge” < cookiecsrfexpire logintimeout
“session.store.redis” < sessionstoretype redis redisurl redisconnectionurl sessionstore redisaddr store redisusesentinel redisusecluster rediscapath redispassword redissentinelmastername redissentinelpassword redisinsecureskiptlsverify enableinclusterstorage clusterstorenamespace redisenabled redisenabletls redistlsskipverify redisdb redisusername redissentinelusername clusterstore
“session.store.redis.endpoints” < redisaddress redissentinelconnectionurls redisclusterconnectionurls redisaddrs
“scopes” < scope overridescopes oidcscopes
“pkce”, on by itself < usepkce enablepkce codechallengemethod forcecodechallengemethod
“authParams” to ask the provider for it, “jwt.audience” or “oAuthIntrospection.audience” for tokens of APIs < audience
“authParams” < authorizationparams extraauthparams oidcextraparams prompt approvalprompt accesstype hostedhd resourceindicator
“resource” < requestedresources resources
“trustedAudiences” for ID tokens, “jwt.audience” for tokens of APIs < validaudience validateaudience oidcextraaudience oidcextraaudiences strictaudiencevalidation aud audiences allowedaudiences oidcaudienceclaim
“trustedIssuer” or “disableIssuerCheck” < validateissuer insecureoidcskipissuerverification skipissuercheck
“idTokenSigningAlg” < signingalg alg oidcenabledsigningalgs enabledsigningalgs algorithm idtokenalg oidcenabledsigningalg
“unauthenticated” < jwtrequired jwtoptional oauthintrospectionoptional unauthorizedbehavior unauthenticatedbehavior defaultaction disableloginredirect javascriptrequestdetection skipproviderbutton apiroute apiroutes forcejsonerrors optional redirectunauthorized
“bypass” < excludedurls excludedpaths bypassauthenticationrule skipauthroute skipauthroutes skipauthregex skipauthpreflight ignorepathprefixes whitelistedpaths trustedip trustedips exclude excludepaths publicpaths rule allowpreflight unauthenticatedmethods authzpassthrough action
“claims”, such as OneOfFold(“email”, …) or SuffixFold(“email”, "@example.com") < allowedusers alloweduserdomains alloweddomains emaildomain emaildomains authenticatedemailsfile whitelist domain domains alloweduser matchwhitelistordomain allowedemails insecureoidcallowunverifiedemail emailaddresses
“claims”, such as OneOf(“groups”, …) < allowedrolesandgroups allowedgroup allowedgroups allowedrole allowedroles authorization assertclaims rules policies requiredclaims required groups roles enablerbac rbac checkoneveryrequest require payloadfields caseinsensitivesubjects githuborg githubteam githubuser githubrepo gitlabgroup gitlabproject googlegroup keycloakgroup bitbucketteam bitbucketrepository entraidallowedtenant
“claims”, which names the claim itself < roleclaimname groupclaimname oidcgroupsclaim groupsclaim oidcemailclaim groupssessionname rolesclaim groupsattributename groupsattribute
“usernameClaim” < useridentifierclaim useridpath useridclaim userclaim userclaimname usernameattribute prefermailtouser
“forwardHeaders” < headers passuserheaders setxauthrequest passaccesstoken setauthorizationheader passauthorizationheader injectrequestheaders injectresponseheaders authresponseheaders minimalheaders jwtheaders proxyheadername userheadername headername passbasicauth claimsheaders enableimpersonation claimstoheaders headermap emailheadernames forwardtokenheadername forwardtokenprefix preferemailtouser setbasicauth basicauthpassword xforwardeduser authresponseheadersregex
“userinfo” < useclaimsfromuserinfo fetchuserinfo skipclaimsfromprofileurl getuserinfo
“jwt” or “oAuthIntrospection” < bearer bearertokens apitokens skipjwtbearertokens extrajwtissuers authorizationheader authorizationcookie allowopaquetokens bearertoken bearertokenloginfallback
“oAuthIntrospection” < requiretokenintrospection tokenintrospection introspection
“jwt.tokenSource” < jwtauthorizationheader jwtheader jwtcookie authheader headerprefix checkcookie jwtcookiekey jwtquerykey useauthheader usedynamicvalidation tokenlookup cookietoken jwtsources parametername
“jwt.publicKey”, “jwt.jwksUrl” or “jwt.issuer” < keys jwks keysurls jwkseturl secretorpublickey forcerefreshkeys secrets oidcpublickeyfile pubjwk
“jwt.issuer” < iss issuers jwttrustedissuers jwttrustedissuer
“jwt.jwksUrl” < jwtjwksuri jwtjwksendpoint jwtkeysurl jwtcertsurl
“jwt.signingSecret” < jwtsecret jwtsecretkey jwtsigningkey jwthmacsecret jwtsharedsecret
“jwt.tokenSource.headerAuthScheme” < scheme authscheme tokenprefix
“clockSkewSeconds” < leeway clockskew clocktolerance allowedclockskew skew
“oAuthIntrospection.clientConfig.url” < oauthintrospectionclientconfigendpoint oauthintrospectionendpoint
“oAuthClientCredentials.params” < oauthclientcredentialsresource oauthclientcredentialsextraparams
“oAuthClientCredentials.clientId” and “oAuthClientCredentials.clientSecret”; no user's password is taken < oauthclientcredentialsusername oauthclientcredentialspassword
“jwt.tokenSource.cookie” < jwttokensourcecookies jwttokensourcecookiename oauthintrospectiontokensourcecookies
“jwt.tokenKey” < jwttokensourceform jwttokensourceparam jwttokensourceparameter jwttokensourcebody
“challengeRealm” < jwtrealm oauthintrospectionrealm
the options themselves, without this block < oidc plugin options
nothing: a block that is there is switched on < enabled enable
“oAuthIntrospection.cacheSeconds” < cachettl cacheduration introspectioncachettl tokencachettl
“clientId” and “clientSecret” at the top level < oauthintrospectionclientid oauthintrospectionclientsecret oauthintrospectionclientconfigclientid oauthintrospectionclientconfigclientsecret oauthintrospectionclientconfigbasicauth oauthintrospectionbasicauth oauthintrospectionusername oauthintrospectionpassword
“claims”, such as SplitContains("scope", " ", "read") < jwtscopes jwtscope oauthintrospectionscopes oauthintrospectionscope requiredscopes requiredscope allowedscopes
“clientConfig.tls.ca” < cabundle cabundlefile cacertpath cacertpem providercafile providercafiles rootca certificateauthority rootcas usesystemtruststore cafile
“clientConfig.tls.insecureSkipVerify” < insecureskipverify sslinsecureskipverify skiptlsverify tlsinsecureskipverify
“clientConfig.timeoutSeconds” < timeout providertimeout httptimeout requesttimeout connecttimeout readtimeout writetimeout
“backchannelLogoutUrl” < enablebackchannellogout backchannellogout backchannellogouturi
“frontchannelLogoutUrl” < enablefrontchannellogout frontchannellogout frontchannellogouturi
“errorPages” < customtemplatesdir unauthorizedpage errorpage templates banner footer redirectforbidden customsigninlogo providerdisplayname filepath redirectto showdebugonerror unauthorized
“logLevel” < log logformat loglevels debug loggingfilename verbose authlogging authloggingformat standardlogging standardloggingformat requestlogging requestloggingformat errorstoinfolog silencepinglogging excludeloggingpath infotostdout
the router's own service, where the application is < upstream upstreams target backend passhostheader proxywebsockets flushinterval upstreamtimeout sslupstreaminsecureskipverify disablekeepalives
“session.store.cacheSeconds” < clusterstorecachettl cachemode
“memory” < hybridl1size hybridl1memorymb
“responseMode” < authrequestresponsemode
“stateCookie.sameSite” < cookiecsrfsamesite
“bypassIdentity” < includewhen
“jwt.forwardAuthorization” < forwardtoken
“jwt.algorithms” < validmethods jwtalg jwtalgorithm jwtsigningalgorithm jwtsupportedalgorithms
“jwt.signingSecretBase64Encoded” < secretbase64encoded
“jwt.clientConfig.headers” < jwksheaders
“endpoints.discovery” < skipoidcdiscovery
Traefik's entryPoints, forwardedHeaders.trustedIPs < reverseproxy trustforwardheader realclientipheader trustedproxyip trustedproxyips
Traefik's own business, in its entryPoints, services and log < httpaddress httpsaddress tlscertfile tlskeyfile metricsaddress maxbodysize forwardbody preservelocationheader requestidheader
Traefik's rateLimit and headers middlewares < ratelimit securityheaders cors
nothing: it is always so here < disablereplaydetection allowprivateipaddresses stripauthcookies insecureoidcskipnonce skipnonce tokenvalidation cookiecsrfperrequest granttype responsetype removemissingheaders skipprefetch delayprefetch refreshkeysinterval skipauthstripheaders encodestate cookiecsrfperrequestlimit redisconnectionidletimeout sessioncookieminimal poolsize enablecircuitbreaker circuitbreakerthreshold circuitbreakertimeout enablehealthcheck healthcheckinterval enablev3urlpatternmatching addauthcookiestoresponse freshnesslimit
nothing like it is here < apikey apikeys dynamicclientregistration htpasswdfile serviceaccounttokenpath freshness opaallowfield opabody opadebugmode opaheaders opahttpstatusfield opaurl oparesponseheaders groupclaimprefix htpasswdusergroup signaturekey displayhtpasswdform pingpath readypath pinguseragent gcphealthchecks claimssessionname defaultprovider
the middleware itself: issuer and clientId instead of an address to ask; see docs/migrate < address authrequestheaders forwardauth
`

var notNameCharacter = regexp.MustCompile(`[^a-z0-9]`)

// optionFor is the answer to an option that other products have. at is its whole path; the last name alone may be enough.
func optionFor(at string) string {
	at = strings.ToLower(at)
	for _, name := range []string{at, at[strings.LastIndex(at, ".")+1:]} {
		name = notNameCharacter.ReplaceAllString(name, "")
		for _, row := range strings.Split(foreignNames, "\n") {
			answer, names, _ := strings.Cut(row, " <")
			if strings.Contains(names+" ", " "+name+" ") {
				return ruleAbbreviations.Replace(answer)
			}
		}
	}
	return ""
}
