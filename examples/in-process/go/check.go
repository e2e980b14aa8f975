// A message router in Go that asks libgate by cgo:
//
//	export CGO_CFLAGS="-I$PWD/build" CGO_LDFLAGS="-L$PWD/build -lgate -Wl,-rpath,$PWD/build"
//	go build -o check examples/in-process/go/check.go
//	./check DATA_DIRECTORY APP_KEY examples/in-process/cases.txt [USERS] [CHECKS]
//
// What it prints, and what it measures: see ../c/check.c.
package main

/*
#include <gate.h>
#include <stdlib.h>

// An id as Go has it: no copy, and the call does not keep it.
static int may_send(gate *g, _GoString_ from, _GoString_ to) {
	return gate_may_send(g, _GoStringPtr(from), _GoStringLen(from), _GoStringPtr(to), _GoStringLen(to));
}

// cgo assumes that a call may keep a pointer that it gets; this one returns a value instead.
typedef struct { int may; const char *word; int64_t until_ms; } answer;
static answer verdict(gate *g, _GoString_ from, _GoString_ to) {
	answer a = {0};
	a.may = gate_verdict(g, _GoStringPtr(from), _GoStringLen(from), _GoStringPtr(to), _GoStringLen(to), &a.word, &a.until_ms);
	return a;
}
*/
import "C"

import (
	"bufio"
	"errors"
	"fmt"
	"log"
	"math/rand"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// Gate answers for one App. Any goroutine may ask; none may ask after Close.
type Gate struct{ handle *C.gate }

// Open opens the Replica in a data directory.
func Open(dataDirectory, appKey string) (*Gate, error) {
	directory, key := C.CString(dataDirectory), C.CString(appKey)
	defer C.free(unsafe.Pointer(directory))
	defer C.free(unsafe.Pointer(key))
	var why [300]C.char
	handle := C.gate_open(directory, key, &why[0], C.size_t(len(why)))
	if handle == nil {
		return nil, errors.New(C.GoString(&why[0]))
	}
	return &Gate{handle}, nil
}

// MaySend says whether one User may message another, now.
func (g *Gate) MaySend(from, to string) (bool, error) {
	may := C.may_send(g.handle, from, to)
	if may < 0 {
		return false, g.refused(func() bool { return C.may_send(g.handle, from, to) < 0 })
	}
	return may == 1, nil
}

// Verdict gives the reason too, and the Unix time in ms at which it may change by itself (0: none).
func (g *Gate) Verdict(from, to string) (word string, untilMs int64, err error) {
	a := C.verdict(g.handle, from, to)
	if a.may < 0 {
		return "", 0, g.refused(func() bool { return C.verdict(g.handle, from, to).may < 0 })
	}
	return C.GoString(a.word), int64(a.until_ms), nil
}

// Status says for how many ms the facts have not been known to be complete.
func (g *Gate) Status() (ready bool, staleMs int64) {
	var isReady C.int
	var stale C.int64_t
	C.gate_status(g.handle, &isReady, &stale)
	return isReady != 0, int64(stale)
}

// Close waits for the calls in progress.
func (g *Gate) Close() { C.gate_close(g.handle) }

// The words of an error belong to a thread, and a goroutine may have moved to another one: ask again on one that stays.
func (g *Gate) refused(again func() bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if again() {
		return errors.New(C.GoString(C.gate_error(g.handle)))
	}
	return errors.New("it could not be answered a moment ago")
}

func askCases(g *Gate, path string) {
	file, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	cases := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) != 3 || words[0][0] == '#' {
			continue
		}
		word, _, err := g.Verdict(words[0], words[1])
		if err != nil {
			log.Fatal(err)
		}
		may, err := g.MaySend(words[0], words[1])
		if err != nil || word != words[2] || may != (word == "allowed") {
			log.Fatalf("%s to %s: %s, expected %s", words[0], words[1], word, words[2])
		}
		cases++
	}
	fmt.Println("cases", cases)
}

func measure(g *Gate, name string, pairsSize, roundSize, users, checks int) {
	from, to := make([]string, pairsSize), make([]string, pairsSize)
	for i := range from {
		from[i], to[i] = fmt.Sprintf("%012d", rand.Intn(users)), fmt.Sprintf("%012d", rand.Intn(users))
	}
	best := time.Hour
	for next := 0; next < checks; {
		start := time.Now()
		for i := 0; i < roundSize; i++ {
			if _, err := g.MaySend(from[next%pairsSize], to[next%pairsSize]); err != nil {
				log.Fatal(err)
			}
			next++
		}
		if took := time.Since(start); took < best {
			best = took
		}
	}
	fmt.Println(name, best.Nanoseconds()/int64(roundSize))
}

func number(at, otherwise int) int {
	if len(os.Args) <= at {
		return otherwise
	}
	n, err := strconv.Atoi(os.Args[at])
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: check DATA_DIRECTORY APP_KEY CASES [USERS] [CHECKS]")
	}
	g, err := Open(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	defer g.Close()
	_, staleMs := g.Status()
	fmt.Println("stale_ms", staleMs)
	askCases(g, os.Args[3])
	measure(g, "hot", 1000, 1000, number(4, 1000000), number(5, 2000000))
	measure(g, "uniform", 200000, 10000, number(4, 1000000), number(5, 2000000))
}
