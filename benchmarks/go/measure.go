package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// barrier is how long the broker may take to confirm a fan-out.
const barrier = 60 * time.Second

type request struct {
	Do      string   `json:"do"`
	Rooms   []string `json:"rooms"`
	Members int      `json:"members"`
	First   int      `json:"first"`
	Version int      `json:"version"`
}

type sample struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu"`
	Count   int     `json:"count"`
}

// measure answers each line of JSON on standard input with a line that says how long it took.
func measure(ctx context.Context, nc *nats.Conn, rooms store) error {
	fmt.Println(`{"ready":true}`)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		step, err := prepare(ctx, nc, rooms, asked)
		if err != nil {
			return err
		}
		taken, err := timed(step)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(taken); err != nil {
			return err
		}
	}
	return lines.Err()
}

// prepare returns the step that is measured; what is ready beforehand in real life is ready before it.
func prepare(ctx context.Context, nc *nats.Conn, rooms store, asked request) (func() (int, error), error) {
	key := keyEvent{RoomID: asked.Rooms[0], Version: asked.Version, PrivateKey: make([]byte, 32)}
	switch asked.Do {
	case "send":
		accounts := make([]string, asked.Members)
		for i := range accounts {
			accounts[i] = "m" + strconv.Itoa(asked.First+i)
		}
		return func() (int, error) { return confirmed(nc, accounts, key) }, nil
	case "fan_out":
		return func() (int, error) {
			sent := 0
			for _, roomID := range asked.Rooms {
				accounts, err := rooms.accounts(ctx, roomID)
				if err != nil {
					return 0, err
				}
				key.RoomID = roomID
				if err := fanOut(nc, accounts, key); err != nil {
					return 0, err
				}
				sent += len(accounts)
			}
			return sent, nc.FlushTimeout(barrier)
		}, nil
	case "read":
		return func() (int, error) {
			accounts, err := rooms.accounts(ctx, asked.Rooms[0])
			return len(accounts), err
		}, nil
	case "documents":
		return func() (int, error) {
			documents, err := rooms.documents(ctx, asked.Rooms[0])
			return len(documents), err
		}, nil
	}
	return nil, fmt.Errorf("nobody knows how to %q", asked.Do)
}

func confirmed(nc *nats.Conn, accounts []string, key keyEvent) (int, error) {
	if err := fanOut(nc, accounts, key); err != nil {
		return 0, err
	}
	return len(accounts), nc.FlushTimeout(barrier)
}

func timed(step func() (int, error)) (sample, error) {
	runtime.GC() // what was made beforehand is not the step's
	cpu, since := cpuSeconds(), time.Now()
	count, err := step()
	return sample{time.Since(since).Seconds(), cpuSeconds() - cpu, count}, err
}

// cpuSeconds is how long this process has worked, in and for itself.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	nanoseconds := usage.Utime.Nano() + usage.Stime.Nano()
	return float64(nanoseconds) / float64(time.Second)
}
