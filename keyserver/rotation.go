package keyserver

import (
	"context"
	"crypto/hmac"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// rotate replaces the identity key of an account by one that the key before has
// signed. KeyPackages of the key before go in the same step, the last-resort one
// included: from then on nobody is given what an old device holds the private
// parts of.
func (s *Server) rotate(ctx context.Context, in *input[keyapi.RotationRequest]) (*output[keyapi.AccountInfo], error) {
	r, u := &in.Body, caller(ctx).user
	if err := r.Rotation.Verify(r.Account); err != nil {
		return nil, invalid(err.Error())
	}
	if wait, ok := s.limits.writes.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	var stored *Account
	err := s.update(ctx, func(w Writer) (err error) {
		if stored, err = owned(w, u, r.Account); err != nil {
			return err
		}
		if n := len(stored.Rotations); n > 0 && hmac.Equal(stored.Rotations[n-1].Signature, r.Rotation.Signature) &&
			hmac.Equal(stored.IdentityKey, r.Rotation.Next) {
			return nil // the answer was lost
		}
		if !hmac.Equal(stored.IdentityKey, r.Rotation.Previous) {
			return conflict(keyapi.CodeConflict, "the account has another identity key")
		}
		for _, before := range stored.Rotations {
			if hmac.Equal(before.Previous, r.Rotation.Next) {
				return invalid("an identity key that was replaced does not come back")
			}
		}
		next := *stored
		next.Rotations = append(append([]keyapi.Rotation{}, stored.Rotations...), r.Rotation)
		next.Rotations = next.Rotations[max(0, len(next.Rotations)-keyapi.MaxRotations):]
		next.IdentityKey = r.Rotation.Next
		stored = &next
		if err := s.emptyPools(w, r.Account); err != nil {
			return err
		}
		return w.PutAccount(stored)
	}, r.Account)
	if err != nil {
		return nil, err
	}
	return &output[keyapi.AccountInfo]{stored.info()}, nil
}
