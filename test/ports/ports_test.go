package ports

import (
	"net"
	"strconv"
	"testing"
)

func TestAddressesAreFreeAndDiffer(t *testing.T) {
	t.Parallel()
	p := New()
	seen := map[string]bool{}
	for range 200 {
		address, err := p.Address()
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Fatalf("%s was given out twice", address)
		}
		seen[address] = true
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := strconv.Atoi(port); err != nil || n < first || n >= last {
			t.Fatalf("%s is not of the range", address)
		}
	}
}

// What is taken is passed over.
func TestTakenPortsArePassedOver(t *testing.T) {
	t.Parallel()
	p := New()
	address, err := p.Address()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p.next.Store(p.next.Load() - 1)
	if got, err := p.Address(); err != nil || got == address {
		t.Errorf("%s is taken and was given out: %v", got, err)
	}
}
