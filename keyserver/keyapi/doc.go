// Package keyapi says what crosses the wire to a CloudMLS key server: paths,
// request and response bodies, and problem codes. It holds no behaviour and
// imports the standard library only, so that SDK users who talk to a key
// server do not download one.
//
// All bodies are JSON; byte strings are standard base64 with padding. Binary
// identifiers in paths are lower-case hexadecimal. Every route but those
// listed under "without a token" needs "Authorization: Bearer <access token>".
//
//	GET    /v1/server                                  without a token  → ServerInfo
//	POST   /v1/auth/params      ParamsRequest          without a token  → AuthParams
//	POST   /v1/auth/register    RegisterRequest        without a token  → Session
//	POST   /v1/auth/login       LoginRequest           without a token  → Session
//	POST   /v1/auth/refresh     RefreshRequest         without a token  → Session
//	POST   /v1/auth/logout                                              → 204
//	POST   /v1/accounts/verify  VerifyRequest                           → VerifyChallenge
//	POST   /v1/accounts         AccountRequest                          → AccountInfo
//	GET    /v1/accounts                                                 → AccountList
//	POST   /v1/keypackages/{platform}/{id}        KeyPackageUpload      → KeyPackageCount
//	GET    /v1/keypackages/{platform}/{id}                              → KeyPackageCount (owner)
//	POST   /v1/keypackages/{platform}/{id}/claim                        → ClaimedKeyPackage
//	GET    /v1/reachable/{platform}/{id}                                → Reachability
//	GET    /v1/objects?buckets=                                         → ObjectIndex
//	GET    /v1/objects/{object}?unless=                                 → ObjectList
//	POST   /v1/objects          ObjectsRequest                          → ObjectList
//	POST   /v1/tx               Tx                                      → TxResult, or 409 Problem
//	GET    /v1/conversations/{conversation}                             → Instance
//	GET    /v1/delivery/{platform}/{id}?after=&limit=&wait=             → Deliveries
//	POST   /v1/delivery/{platform}/{id}/ack       AckRequest            → 204
//
// {platform} and {id} are percent-encoded path segments; an id may hold any
// octet but NUL and is never split at "/" or case-folded by the server.
package keyapi
