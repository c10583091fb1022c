package benchkeyserver

import "testing"

// The benchmark runs at all.

func TestShortRequests(t *testing.T)      { requests(t, short()) }
func TestShortObjectsStored(t *testing.T) { objectsStored(t, short()) }
func TestShortMemory(t *testing.T)        { memory(t, short()) }
func TestShortProcesses(t *testing.T)     { processes(t, short()) }
