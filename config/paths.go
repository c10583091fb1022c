package config

import (
	"errors"
	"path/filepath"
	"runtime"
)

// DefaultCredential is the name of the systemd credential that holds the
// vault's key, unless the file names another.
const DefaultCredential = "cloudmls-vault-key"

// DefaultGatewayFile returns where the gateway's file lies if nobody says
// otherwise: gateway.toml in the folder cloudmls of the user's configuration
// (XDG Base Directory specification; Application Support on macOS, AppData on
// Windows). This package reads no environment: getenv does, usually os.Getenv.
func DefaultGatewayFile(getenv func(string) string) (string, error) {
	dir, err := userDir(runtime.GOOS, getenv, folders{xdg: "XDG_CONFIG_HOME", home: ".config", windows: "AppData"})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "gateway.toml"), nil
}

// DefaultDataDir returns the folder for data_dir in a fresh file.
func DefaultDataDir(getenv func(string) string) (string, error) {
	return userDir(runtime.GOOS, getenv, folders{xdg: "XDG_DATA_HOME", home: ".local/share", windows: "LocalAppData"})
}

// folders names one kind of folder on each kind of system.
type folders struct{ xdg, home, windows string }

func userDir(goos string, getenv func(string) string, f folders) (string, error) {
	base := ""
	switch goos {
	case "windows":
		base = getenv(f.windows)
		if base == "" {
			return "", errors.New("%" + f.windows + "% is not set; name the file or folder by hand")
		}
	case "darwin", "ios":
		if home := getenv("HOME"); home != "" {
			base = filepath.Join(home, "Library", "Application Support")
		}
	default:
		// The specification: a relative path is to be ignored.
		if xdg := getenv(f.xdg); filepath.IsAbs(xdg) {
			base = xdg
		} else if home := getenv("HOME"); home != "" {
			base = filepath.Join(home, filepath.FromSlash(f.home))
		}
	}
	if base == "" {
		return "", errors.New("$HOME is not set; name the file or folder by hand")
	}
	return filepath.Join(base, "cloudmls"), nil
}
