package main

// The part of the contract that this policy needs, by hand, because of Go's garbage collector: it asks for the time, and while
// the host hands a value over (it calls `cabi_realloc`), a component may not ask the host for anything. A collection that came
// to its end there would be a fault, once in tens of thousands of calls. So
//
//   - `cabi_realloc` takes memory from an array of its own and allocates nothing, and
//   - the collector runs when a call begins, never by itself.

import (
	"runtime"
	"runtime/debug"
	"unsafe"
)

// An Outcome is how an attempt ended: Status is 0 if there was no response.
type Outcome struct {
	Status  int
	Failure int
}

// Setting is a setting of the component, and whether it is set.
func Setting(name string) (string, bool) {
	settingsGet(name, unsafe.Pointer(&result))
	if result[0]&0xff == 0 {
		return "", false
	}
	return text(result[1], result[2]), true
}

// PathWithQuery is that of the request.
func PathWithQuery() string {
	attemptPathWithQuery(unsafe.Pointer(&result))
	return text(result[0], result[1])
}

//go:wasmimport fusebox:policy/settings@0.1.0 get
func settingsGet(name string, result unsafe.Pointer)

//go:wasmimport fusebox:policy/attempt@0.1.0 path-with-query
func attemptPathWithQuery(result unsafe.Pointer)

// Where the host writes what does not fit into one number.
var result [3]uint32

// A copy of what the host has put into the arena, since it is gone at the next call.
func text(pointer, length uint32) string {
	if length == 0 {
		return ""
	}
	start := pointer - uint32(uintptr(unsafe.Pointer(&arena)))
	return string(arena[start : start+length])
}

const callsPerCollection = 1000

var calls int

//go:wasmexport fusebox:policy/predicate@0.1.0#handle-if
func exportHandleIf(tag, value int32) int32 {
	if calls == 0 {
		debug.SetGCPercent(-1)
		kept = used
	}
	used = kept
	if calls++; calls%callsPerCollection == 0 {
		runtime.GC()
	}
	outcome := Outcome{Status: int(value)}
	if tag != 0 {
		outcome = Outcome{Failure: int(value)}
	}
	if handleIf(outcome) {
		return 1
	}
	return 0
}

// What the host hands over in one call, and, from before the first, what the adapter between Go and WASI keeps.
var arena [256 << 10]byte
var used, kept uint32

//go:wasmexport cabi_realloc
func cabiRealloc(_ unsafe.Pointer, _, align, size uint32) unsafe.Pointer {
	used = (used + align - 1) &^ (align - 1)
	if used+size > uint32(len(arena)) {
		return nil
	}
	pointer := unsafe.Pointer(&arena[used])
	used += size
	return pointer
}

func main() {}
