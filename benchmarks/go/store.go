package main

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const gracePeriod = 24 * time.Hour

type roomKey struct {
	Secret  []byte `bson:"priv"`
	Version int    `bson:"ver"`
}

type room struct {
	EncKey *roomKey `bson:"encKey"`
}

type subscription struct {
	ID   string `bson:"_id"`
	User struct {
		ID      string `bson:"_id"`
		Account string `bson:"account"`
		IsBot   bool   `bson:"isBot"`
	} `bson:"u"`
	RoomID          string    `bson:"roomId"`
	SiteID          string    `bson:"siteId"`
	Roles           []string  `bson:"roles"`
	Name            string    `bson:"name"`
	RoomType        string    `bson:"roomType"`
	JoinedAt        time.Time `bson:"joinedAt"`
	HasMention      bool      `bson:"hasMention"`
	Alert           bool      `bson:"alert"`
	Muted           bool      `bson:"muted"`
	Favorite        bool      `bson:"favorite"`
	HasGroupMention bool      `bson:"hasGroupMention"`
	HasUnread       bool      `bson:"hasUnread"`
}

type store struct {
	rooms, subscriptions *mongo.Collection
}

func newStore(db *mongo.Database) store {
	return store{db.Collection("rooms"), db.Collection("subscriptions")}
}

func (s store) key(ctx context.Context, roomID string) (*roomKey, error) {
	var found room
	err := s.rooms.FindOne(ctx, bson.M{"_id": roomID},
		options.FindOne().SetProjection(bson.M{"encKey": 1})).Decode(&found)
	return found.EncKey, err
}

func (s store) remove(ctx context.Context, roomID, account string) (int64, error) {
	gone, err := s.subscriptions.DeleteOne(ctx, bson.M{"roomId": roomID, "u.account": account})
	if err != nil {
		return 0, err
	}
	return gone.DeletedCount, nil
}

// recount updates the member counts of a room, with two counts and an update.
func (s store) recount(ctx context.Context, roomID string) error {
	members, err := s.subscriptions.CountDocuments(ctx, bson.M{"roomId": roomID})
	if err != nil {
		return err
	}
	bots, err := s.subscriptions.CountDocuments(ctx, bson.M{"roomId": roomID, "u.isBot": true})
	if err != nil {
		return err
	}
	_, err = s.rooms.UpdateOne(ctx, bson.M{"_id": roomID}, bson.M{"$set": bson.M{
		"userCount": members - bots, "appCount": bots, "updatedAt": time.Now().UTC(),
	}})
	return err
}

// accounts reads the members of a room with a projection that the index covers.
func (s store) accounts(ctx context.Context, roomID string) ([]string, error) {
	cursor, err := s.subscriptions.Find(ctx, bson.M{"roomId": roomID},
		options.Find().SetProjection(bson.M{"u.account": 1, "_id": 0}))
	if err != nil {
		return nil, err
	}
	var found []struct {
		User struct {
			Account string `bson:"account"`
		} `bson:"u"`
	}
	if err := cursor.All(ctx, &found); err != nil {
		return nil, err
	}
	accounts := make([]string, len(found))
	for i := range found {
		accounts[i] = found[i].User.Account
	}
	return accounts, nil
}

// documents reads the members of a room as whole documents.
func (s store) documents(ctx context.Context, roomID string) ([]subscription, error) {
	cursor, err := s.subscriptions.Find(ctx, bson.M{"roomId": roomID})
	if err != nil {
		return nil, err
	}
	var found []subscription
	return found, cursor.All(ctx, &found)
}

// rotate makes the new key current and keeps the previous one, in one update.
func (s store) rotate(ctx context.Context, roomID string, secret []byte) error {
	update := mongo.Pipeline{bson.D{{Key: "$set", Value: bson.M{
		"encKey.prevPriv":      "$encKey.priv",
		"encKey.prevVer":       "$encKey.ver",
		"encKey.prevExpiresAt": time.Now().UTC().Add(gracePeriod),
		"encKey.priv":          secret,
		"encKey.ver":           bson.M{"$add": bson.A{"$encKey.ver", 1}},
	}}}}
	return s.rooms.FindOneAndUpdate(ctx, bson.M{"_id": roomID, "encKey.priv": bson.M{"$exists": true}}, update,
		options.FindOneAndUpdate().SetReturnDocument(options.After).SetProjection(bson.M{"encKey.ver": 1})).Err()
}
