package service

import (
	"context"
	"errors"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/control"
)

// Devices implements control.Service.
func (s *service) Devices(ctx context.Context) ([]control.Device, error) {
	all, err := s.o.Client.Devices(ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	out := make([]control.Device, len(all))
	for i, d := range all {
		out[i] = control.Device{ID: d.ID, Name: d.Name, Added: d.Added, LastSeen: d.LastSeen, This: d.This, SignedIn: d.SignedIn}
	}
	return out, nil
}

// RevokeDevice implements control.Service.
func (s *service) RevokeDevice(ctx context.Context, id string) error {
	all, err := s.o.Client.Devices(ctx)
	if err != nil {
		return s.failed(err)
	}
	for _, d := range all {
		if d.ID == id && d.This {
			return &control.Error{Code: control.CodeInvalid, Message: "that is this device", Hint: "revoke it from another one"}
		}
	}
	err = s.o.Client.RevokeDevice(ctx, id)
	switch {
	case errors.Is(err, cloudmls.ErrNoDevice):
		return &control.Error{Code: control.CodeNotFound, Message: "no such device", Hint: "'cloudmls device list' shows them with their ids", Err: err}
	case err != nil:
		return s.failed(err)
	}
	return nil
}

// Store implements control.Service.
func (s *service) Store(ctx context.Context) (*control.StoreStatus, error) {
	st, err := s.o.Client.Store(ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	return &control.StoreStatus{
		Origin: st.Origin, Home: st.Home, Username: st.Username, Moving: st.Moving, Objects: st.Objects, Bytes: st.Bytes,
	}, nil
}

// ChangePassword implements control.Service.
func (s *service) ChangePassword(ctx context.Context, old, new control.Secret) error {
	if old == "" || new == "" {
		return &control.Error{Code: control.CodeInvalid, Message: "the old or the new password is empty"}
	}
	if err := s.o.Client.ChangePassword(ctx, string(old), string(new)); err != nil {
		return s.failed(err)
	}
	return nil
}
