package outbox

import "errors"

// lockFile stands in the queue's folder, empty.
const lockFile = "lock"

// ErrLocked says that another process has the queue open. Two of them would
// send everything twice.
var ErrLocked = errors.New("the outbox is in use by another process: is a second gateway running on the same data folder?")
