package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// eventWorkers is the maximum number of events handled at once.
const eventWorkers = 100

type removal struct {
	RoomID    string `json:"roomId"`
	Requester string `json:"requester"`
	Account   string `json:"account"`
}

type worker struct {
	nc    *nats.Conn
	rooms store
	site  string
}

// serve consumes the events of a site from a durable consumer until it is killed. It acknowledges each event after
// handling it.
func serve(ctx context.Context, nc *nats.Conn, rooms store, site string) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, "ROOMS_"+site, jetstream.ConsumerConfig{
		Durable:       "room-worker",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       30 * time.Second,
		MaxDeliver:    5,
		MaxWaiting:    512,
		MaxAckPending: 1000,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(2 * eventWorkers))
	if err != nil {
		return err
	}
	fmt.Println(`{"ready":true}`)
	w := worker{nc, rooms, site}
	slots := make(chan struct{}, eventWorkers)
	for {
		message, err := messages.Next()
		if err != nil {
			return err
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			w.handle(ctx, message)
		}()
	}
}

func (w worker) handle(ctx context.Context, message jetstream.Msg) {
	if !strings.HasSuffix(message.Subject(), ".member.remove") {
		_ = message.Ack()
		return
	}
	var event removal
	err := json.Unmarshal(message.Data(), &event)
	if err == nil {
		err = w.remove(ctx, event)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		_ = message.Nak()
		return
	}
	w.answer(event, message.Headers().Get("X-Request-ID"))
	_ = message.Ack()
}

// remove handles a removal, one call after the other. It sends the new key before it stores it.
func (w worker) remove(ctx context.Context, event removal) error {
	current, err := w.rooms.key(ctx, event.RoomID)
	if err != nil {
		return fmt.Errorf("read the key: %w", err)
	}
	if _, err := w.rooms.remove(ctx, event.RoomID, event.Account); err != nil {
		return fmt.Errorf("delete the membership: %w", err)
	}
	if err := w.rooms.recount(ctx, event.RoomID); err != nil {
		return fmt.Errorf("count the members: %w", err)
	}
	survivors, err := w.rooms.accounts(ctx, event.RoomID)
	if err != nil {
		return fmt.Errorf("read the survivors: %w", err)
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	key := keyEvent{RoomID: event.RoomID, Version: current.Version + 1, PrivateKey: secret}
	if err := fanOut(w.nc, survivors, key); err != nil {
		return fmt.Errorf("fan out: %w", err)
	}
	if err := w.rooms.rotate(ctx, event.RoomID, secret); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	return nil
}

// answer publishes the notices and the result.
func (w worker) answer(event removal, requestID string) {
	now := time.Now().UnixMilli()
	user := map[string]any{"id": "u-" + event.Account, "account": event.Account, "isBot": false}
	w.send("chat.user."+event.Account+".event.subscription.update", requestID, map[string]any{
		"userId":       "u-" + event.Account,
		"subscription": map[string]any{"roomId": event.RoomID, "roomType": "channel", "u": user},
		"action":       "removed",
		"timestamp":    now,
	})
	w.send("chat.room."+event.RoomID+".event.member", requestID, map[string]any{
		"type": "member_removed", "roomId": event.RoomID, "accounts": []string{event.Account},
		"siteId": w.site, "timestamp": now,
	})
	w.send("chat.user."+event.Requester+".response."+requestID, requestID, map[string]any{
		"requestId": requestID, "operation": "room.member.remove", "status": "ok",
		"roomId": event.RoomID, "timestamp": now,
	})
}

func (w worker) send(subject, requestID string, body map[string]any) {
	data, err := json.Marshal(body)
	if err == nil {
		message := nats.NewMsg(subject)
		message.Data = data
		message.Header.Set("X-Request-ID", requestID)
		err = w.nc.PublishMsg(message)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
