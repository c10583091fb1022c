package state

// LocalStore keeps this device's records. It sees sealed values, hashes and
// opaque keys only. Implementations are safe for concurrent use.
type LocalStore interface {
	// Get returns the value under key, or nil, nil where there is none. The
	// caller owns the result.
	Get(bucket, key string) ([]byte, error)
	// Update runs fn and then makes all its changes durable (fsync) in one
	// atomic step. When fn or the step fails, nothing has changed.
	Update(fn func(w Writer) error) error
	// ForEach calls fn for each key of bucket, in any order. v is valid during
	// the call only. fn must not call the store.
	ForEach(bucket string, fn func(key string, v []byte) error) error
	Close() error
}

// Writer collects the changes of one LocalStore.Update.
type Writer interface {
	// Put does not keep v after the call.
	Put(bucket, key string, v []byte) error
	// Delete of an absent key is no error.
	Delete(bucket, key string) error
}
