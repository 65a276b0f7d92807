package main

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// fanoutWorkers is the maximum number of publishes in flight in one fan-out.
const fanoutWorkers = 32

type keyEvent struct {
	RoomID     string `json:"roomId"`
	Version    int    `json:"version"`
	PrivateKey []byte `json:"privateKey"`
	Timestamp  int64  `json:"timestamp"`
}

// fanOut publishes one key to each account. It serialises the key once and starts one goroutine per recipient,
// behind a semaphore.
func fanOut(nc *nats.Conn, accounts []string, event keyEvent) error {
	event.Timestamp = time.Now().UnixMilli()
	payload, err := json.Marshal(event)
	if err != nil {
		return err
	}
	slots := make(chan struct{}, min(fanoutWorkers, max(len(accounts), 1)))
	var (
		sending sync.WaitGroup
		once    sync.Once
		failed  error
	)
	for _, account := range accounts {
		slots <- struct{}{}
		sending.Add(1)
		go func() {
			defer func() {
				<-slots
				sending.Done()
			}()
			if err := nc.Publish("chat.user."+account+".event.room.key", payload); err != nil {
				once.Do(func() { failed = err })
			}
		}()
	}
	sending.Wait()
	return failed
}
