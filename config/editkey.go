package config

import (
	"errors"
	"fmt"
	"reflect"
)

// field is the last part of a key's path: a field of a struct or a name in a
// map.
type field struct {
	table where // the path of the table around it
	name  string
	in    reflect.Value // the struct or map
	index int           // of the field in a struct
}

// lookUp walks from a table down a path of keys.
func lookUp(v reflect.Value, at where, key []string) (field, error) {
	for i, name := range key {
		last := i == len(key)-1
		if v.Kind() == reflect.Map {
			if !last || name == "" {
				break
			}
			return field{table: at, name: name, in: v}, checkText(reflect.ValueOf(name))
		}
		index := -1
		for j := range v.NumField() {
			if v.Type().Field(j).Tag.Get("toml") == name {
				index = j
			}
		}
		if index < 0 {
			return field{}, fmt.Errorf("there is no key %q", name)
		}
		f := v.Field(index)
		if last && !isTable(f.Type()) {
			return field{table: at, name: name, in: v, index: index}, nil
		}
		if f.Kind() != reflect.Struct && f.Kind() != reflect.Map {
			break
		}
		v, at = f, at.key(name)
	}
	return field{}, errors.New("the key does not name a single value")
}

func setKey(root reflect.Value, at where, key []string, value any) (func(*layout) ([]byte, error), error) {
	f, err := lookUp(root, at, key)
	if err != nil {
		return nil, err
	}
	v := reflect.ValueOf(value)
	if !v.IsValid() {
		return nil, errors.New("a value is missing")
	}
	if err := checkText(v); err != nil {
		return nil, err
	}
	want := f.in.Type()
	if f.in.Kind() == reflect.Map {
		want = want.Elem()
	} else {
		want = want.Field(f.index).Type
	}
	if v.Kind() != want.Kind() || !v.CanConvert(want) {
		return nil, fmt.Errorf("the value is a %s, not a %s", v.Type(), want)
	}
	v = v.Convert(want)
	if f.in.Kind() == reflect.Map {
		if f.in.IsNil() {
			f.in.Set(reflect.MakeMap(f.in.Type()))
		}
		f.in.SetMapIndex(reflect.ValueOf(f.name), v)
	} else {
		f.in.Field(f.index).Set(v)
	}
	return func(l *layout) ([]byte, error) { return l.set(f.table, f.name, tomlValue(v)) }, nil
}

func unsetKey(root reflect.Value, at where, key []string) (func(*layout) ([]byte, error), error) {
	f, err := lookUp(root, at, key)
	if err != nil {
		return nil, err
	}
	if f.in.Kind() == reflect.Map {
		if !f.in.IsNil() {
			f.in.SetMapIndex(reflect.ValueOf(f.name), reflect.Value{})
		}
	} else {
		f.in.Field(f.index).SetZero()
	}
	return func(l *layout) ([]byte, error) { return l.unset(f.table.key(f.name)) }, nil
}
