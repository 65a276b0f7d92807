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

// barrier is the time that the broker may take to confirm a fan-out.
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

// measure runs one step for each line of JSON on standard input, and writes one line with its time.
func measure(ctx context.Context, nc *nats.Conn, rooms store) error {
	fmt.Println(`{"ready":true}`)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var req request
		if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
			return err
		}
		step, err := prepare(ctx, nc, rooms, req)
		if err != nil {
			return err
		}
		result, err := timed(step)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
			return err
		}
	}
	return lines.Err()
}

// prepare returns the step to measure. What a worker has ready before the step is prepared here.
func prepare(ctx context.Context, nc *nats.Conn, rooms store, req request) (func() (int, error), error) {
	key := keyEvent{RoomID: req.Rooms[0], Version: req.Version, PrivateKey: make([]byte, 32)}
	switch req.Do {
	case "send":
		accounts := make([]string, req.Members)
		for i := range accounts {
			accounts[i] = "m" + strconv.Itoa(req.First+i)
		}
		return func() (int, error) { return confirmed(nc, accounts, key) }, nil
	case "fan_out":
		return func() (int, error) {
			sent := 0
			for _, roomID := range req.Rooms {
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
			accounts, err := rooms.accounts(ctx, req.Rooms[0])
			return len(accounts), err
		}, nil
	case "documents":
		return func() (int, error) {
			documents, err := rooms.documents(ctx, req.Rooms[0])
			return len(documents), err
		}, nil
	}
	return nil, fmt.Errorf("unknown step %q", req.Do)
}

func confirmed(nc *nats.Conn, accounts []string, key keyEvent) (int, error) {
	if err := fanOut(nc, accounts, key); err != nil {
		return 0, err
	}
	return len(accounts), nc.FlushTimeout(barrier)
}

func timed(step func() (int, error)) (sample, error) {
	runtime.GC() // do not measure the garbage of the preparation
	cpu, since := cpuSeconds(), time.Now()
	count, err := step()
	return sample{time.Since(since).Seconds(), cpuSeconds() - cpu, count}, err
}

// cpuSeconds returns the CPU time of this process, user and system.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	nanoseconds := usage.Utime.Nano() + usage.Stime.Nano()
	return float64(nanoseconds) / float64(time.Second)
}
