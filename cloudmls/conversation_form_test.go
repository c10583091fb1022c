package cloudmls

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// setAll sets every stored field to something of its own.
func setAll(v reflect.Value, next *uint64) {
	*next++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && v.Type().Field(i).Name != "Version" {
				setAll(v.Field(i), next)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			setAll(v.Index(i), next)
		}
	case reflect.Array:
		for i := range v.Len() {
			setAll(v.Index(i), next)
		}
	case reflect.String:
		v.SetString(strings.Repeat("x", int(*next)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(*next % 200)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(*next << 20)
	default:
		v.SetInt(-int64(*next << 33))
	}
}

// TestConversationFormHoldsEveryField: all of them together, and each alone.
func TestConversationFormHoldsEveryField(t *testing.T) {
	t.Parallel()
	full, n := &conversationRecord{Version: recordVersion}, uint64(0)
	setAll(reflect.ValueOf(full).Elem(), &n)
	records := []*conversationRecord{full}
	for i := range reflect.TypeFor[conversationRecord]().NumField() {
		one := &conversationRecord{ID: ConversationID{1}}
		reflect.ValueOf(one).Elem().Field(i).Set(reflect.ValueOf(full).Elem().Field(i))
		one.Version = recordVersion
		records = append(records, one)
	}
	for _, r := range records {
		b, err := encodeRecord(r)
		if err != nil || b[0] != conversationForm {
			t.Fatalf("%v: %x", err, b)
		}
		got := &conversationRecord{}
		if err := decodeRecord(b, got); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if !reflect.DeepEqual(got, r) {
			t.Errorf("written  %+v\nread back %+v", r, got)
		}
	}
}

// conversationVector is a record in both of its forms.
type conversationVector struct {
	Comment string          `json:"comment"`
	JSON    json.RawMessage `json:"json"`
	Encoded hexBytes        `json:"encoded"`
}

func readConversationVector(tb testing.TB) conversationVector {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "spec", "vectors", "conversation-record.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var x conversationVector
	if err := json.Unmarshal(b, &x); err != nil {
		tb.Fatal(err)
	}
	return x
}

// TestConversationVector: what earlier versions stored, in either form, is read as
// it was.
func TestConversationVector(t *testing.T) {
	t.Parallel()
	x := readConversationVector(t)
	old, now := &conversationRecord{}, &conversationRecord{}
	if err := decodeRecord(x.JSON, old); err != nil {
		t.Fatal(err)
	}
	if err := decodeRecord(x.Encoded, now); err != nil {
		t.Fatal(err)
	}
	if len(old.Members) != 2 || len(old.Past) != 1 || len(old.Wishes) != 2 || old.Members[1].Certified == 0 {
		t.Errorf("read from JSON: %+v", old)
	}
	if !reflect.DeepEqual(old, now) {
		t.Errorf("from JSON %+v\nfrom the other form %+v", old, now)
	}
	if got := old.encode(); !bytes.Equal(got, x.Encoded) {
		t.Errorf("encoded %x", got)
	}
}

// TestConversationFormIsStrict: one record has one form, and what this program does
// not know is not dropped.
func TestConversationFormIsStrict(t *testing.T) {
	t.Parallel()
	r := &conversationRecord{ID: ConversationID{1}, Kind: KindDialog, Epoch: 300, Members: []memberEntry{{Platform: "p", ID: "i"}}}
	good := string(r.encode())
	for name, b := range map[string]string{
		"empty":                      "",
		"another form":               "\x03" + good[1:],
		"an unknown field":           good + "\x16\x01",
		"an unknown field, far":      good + "\xff\x01",
		"field 0":                    good + "\x00\x01",
		"fields in another order":    good[:19] + "\x04\xac\x02" + "\x02\x01" + good[24:],
		"a field twice":              good[:21] + good[19:],
		"a zero":                     good + "\x07\x00",
		"a flag of 2":                good + "\x09\x02",
		"a number that is too large": good + "\x0d\x80\x80\x80\x80\x10",
		"a kind that is too large":   strings.Replace(good, "\x02\x01\x04", "\x02\x81\x02\x04", 1),
		"a number written longer":    strings.Replace(good, "\x04\xac\x02", "\x04\xac\x82\x00", 1),
		"a number of 70 bits":        good + "\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
		"a number cut off":           good + "\x0b\x80",
		"octets cut off":             good[:len(good)-1],
		"a length beyond everything": good + "\x11\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"an empty element":           good + "\x0c\x00",
		"an unknown field within":    good + "\x0c\x02\x06\x01",
		"a short id":                 "\x02\x01\x01\x01" + good[19:],
		"a long id":                  "\x02\x01\x11" + good[3:19] + "\x01" + good[19:],
		"JSON of another version":    `{"v":2}`,
		"JSON with a field more":     `{"v":1,"shape":"round"}`,
	} {
		if name == "fields in another order" && len(b) != len(good) || b == good {
			t.Fatalf("%s: the test is wrong: %x", name, b)
		}
		if err := decodeRecord([]byte(b), &conversationRecord{}); err == nil {
			t.Errorf("%s is read: %x", name, b)
		}
	}
	if err := decodeRecord([]byte(good), &conversationRecord{}); err != nil {
		t.Error(err)
	}
	if err := decodeRecord([]byte(good+"\x16\x01"), &conversationRecord{}); err == nil || !strings.Contains(err.Error(), "does not know its field 22: update it") {
		t.Errorf("a newer record: %v", err)
	}
}

// TestConversationOfBefore: a conversation whose record an earlier version wrote
// goes on, on all devices, and has the new form once it changes.
func TestConversationOfBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	key := conversationKey(alice.self, id)
	first := func(d *device) byte {
		t.Helper()
		b, err := d.Client.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return b[0]
	}
	err := alice.update(t.Context(), alice.self, func(_ *state.Tx, v *view) error {
		conv, err := v.conversation(id)
		if err != nil {
			return err
		}
		old, err := json.Marshal(conv)
		v.putRaw(key, old)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	phone := alice.sibling()
	if first(alice) != '{' || first(phone) != '{' {
		t.Fatal("the test's record is not of before")
	}
	bob.reads(phone.encrypt(id, "as it was"), "as it was", alice)
	phone.ensureGroup(id, carol)
	if first(phone) != conversationForm {
		t.Error("the record kept its form though it changed")
	}
	alice.cleanSync()
	bob.cleanSync()
	carol.cleanSync()
	text := alice.encrypt(id, "and after")
	bob.reads(text, "and after", alice)
	carol.reads(text, "and after", alice)
}

func FuzzDecodeConversation(f *testing.F) {
	f.Add([]byte(readConversationVector(f).Encoded))
	f.Add((&conversationRecord{}).encode())
	f.Add([]byte{conversationForm, 6, 2, 4, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &conversationRecord{}
		if err := decodeRecord(b, r); err != nil || b[0] != conversationForm {
			return
		}
		if again := r.encode(); !bytes.Equal(again, b) {
			t.Errorf("%x is read and written as %x", b, again)
		}
	})
}
