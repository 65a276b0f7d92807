// A Go worker of the usual kind, as a peer for the benchmarks. `peer serve` handles events as such workers do.
// `peer measure` runs one step for each line of JSON that it reads, and reports its time.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func main() {
	if len(os.Args) != 2 || (os.Args[1] != "serve" && os.Args[1] != "measure") {
		fmt.Fprintln(os.Stderr, "usage: peer serve|measure")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, mode string) error {
	nc, err := nats.Connect(os.Getenv("NATS_URL"), nats.Name("go-peer"), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	defer nc.Close()
	// Such workers use the default write concern of the server, which is majority.
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGO_URI")))
	if err != nil {
		return fmt.Errorf("mongodb: %w", err)
	}
	defer func() { _ = client.Disconnect(ctx) }()
	rooms := newStore(client.Database(os.Getenv("MONGO_DB")))
	if mode == "measure" {
		return measure(ctx, nc, rooms)
	}
	return serve(ctx, nc, rooms, os.Getenv("SITE_ID"))
}
