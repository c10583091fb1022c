package service

import (
	"context"

	"github.com/cloudmls/gateway/internal/control"
)

// Devices implements control.Service.
func (s *service) Devices(context.Context) ([]control.Device, error) {
	return nil, &control.Error{Code: control.CodeVersion, Message: "devices cannot be listed by this version"}
}

// RevokeDevice implements control.Service.
func (s *service) RevokeDevice(context.Context, string) error {
	return &control.Error{Code: control.CodeVersion, Message: "devices cannot be revoked by this version"}
}

// ChangePassword implements control.Service.
func (s *service) ChangePassword(context.Context, control.Secret, control.Secret) error {
	return &control.Error{Code: control.CodeVersion, Message: "the password cannot be changed by this version"}
}
