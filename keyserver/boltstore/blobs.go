package boltstore

import (
	"bytes"
	"errors"
	"fmt"
)

// Blobs keep long octet strings away from the small records that change often:
// bbolt rewrites a whole page when one of its records changes. They are
// numbered, written once, and go with their last use.

func (t *tx) addBlob(data []byte, uses uint64) (uint64, error) {
	if uses == 0 {
		return 0, errors.New("blob without a use")
	}
	blobs := t.bucket(bucketBlobs)
	blobs.FillPercent = fillInOrder
	n, err := blobs.NextSequence()
	if err != nil {
		return 0, err
	}
	if uses > 1 {
		if err := t.bucket(bucketBlobUses).replace(num(n), nil, num(uses)); err != nil {
			return 0, err
		}
	}
	return n, blobs.replace(num(n), nil, data)
}

func (t *tx) blob(n uint64) ([]byte, error) {
	v := t.bucket(bucketBlobs).Get(num(n))
	if v == nil {
		return nil, fmt.Errorf("store is damaged: blob %d is missing", n)
	}
	return bytes.Clone(v), nil
}

func (t *tx) dropBlob(n uint64) error {
	left := t.bucket(bucketBlobUses)
	key := num(n)
	v := left.Get(key)
	if v == nil {
		blobs := t.bucket(bucketBlobs)
		return blobs.remove(key, blobs.Get(key))
	}
	uses, err := readNum(v)
	if err != nil {
		return err
	}
	if uses > 2 {
		return left.replace(key, v, num(uses-1))
	}
	return left.remove(key, v)
}
