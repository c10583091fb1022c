package keyapi

import "errors"

// ErrSplit says that a change is one step at a server that has all roles, and
// two where delivery, store and sign-in are apart. A client of the API gives it
// before it asks any server: it does not take two steps where stopping between
// them would leave things half done. The caller stores what it is about to do,
// and then does it.
var ErrSplit = errors.New("key server: the change concerns two servers and cannot be made in one step")
