package store

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
)

// Users is the table of people's accounts. All rows are in one partition, so that one
// transaction writes all that an account is:
//
//	user!<id>    name and uid of a person, by the object id of the directory
//	name!<name>  whose a name is
//	uid!<uid>    whose a uid is
//	counter      the next uid
//
// No row but the counter is ever changed or deleted: a uid on a disk means the same person
// for ever.
type Users struct{ table *table.Table }

// User is the account of a person.
type User struct {
	ID    string // object id of the directory, lower case
	Name  string
	UID   int
	Login string // when the account was made; for people only
	At    time.Time
}

const (
	userPartition = "users"
	counterKey    = "counter"
	// firstUID is above what systems, images and directories give out by themselves.
	firstUID = 200_000
	// userRounds bounds the tries to be first. Each one that fails means that somebody
	// else was, so that all get their turn.
	userRounds = 200
	// nameTries bounds the names that one login is tried under.
	nameTries = 1000
)

func userKey(id string) string   { return "user!" + escapeKey(id) }
func nameKey(name string) string { return "name!" + escapeKey(name) }
func uidKey(uid int) string      { return fmt.Sprintf("uid!%010d", uid) }

// User reads the account of a person. NotFound: the person has none.
func (u *Users) User(ctx context.Context, id string) (User, error) {
	raw, _, err := u.table.Get(ctx, "read an account", userPartition, userKey(id))
	if err != nil {
		return User{}, err
	}
	return decodeUser(raw)
}

// UsersOfLogin reads the accounts that were made under a login, compared without letter case,
// the oldest first. It reads all accounts.
func (u *Users) UsersOfLogin(ctx context.Context, login string) ([]User, error) {
	all, err := readAll(ctx, u.table, "look for a login", table.Query{Filter: table.Between(userPartition, "user!", "user\"")}, decodeUser)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(user User) bool { return !strings.EqualFold(user.Login, login) })
	slices.SortFunc(all, func(a, b User) int { return cmp.Compare(a.UID, b.UID) })
	return all, nil
}

func decodeUser(raw []byte) (User, error) {
	var row struct {
		ID, Name, Login string
		UID             int
		At              time.Time
	}
	if err := table.Decode(raw, &row); err != nil {
		return User{}, err
	}
	if row.Name == "" || row.UID < firstUID {
		return User{}, table.Damaged(raw, fmt.Errorf("name %q, uid %d", row.Name, row.UID))
	}
	return User{ID: row.ID, Name: row.Name, UID: row.UID, Login: row.Login, At: row.At}, nil
}

func encodeUser(key string, user User) []byte {
	e := table.NewRow(userPartition, key)
	e.Text("ID", user.ID)
	e.Text("Name", user.Name)
	e.Int("UID", user.UID)
	e.Sentence("Login", user.Login)
	e.Time("At", user.At)
	return e.JSON()
}

// AddUser returns the account of a person, and makes it if there is none. name gives the
// names to try, from the first one on; one that cannot be used is "". It may be called by
// many at once, and be killed at any point.
func (u *Users) AddUser(ctx context.Context, id, login string, name func(n int) string, at time.Time) (User, error) {
	for round := range userRounds {
		user, err := u.User(ctx, id)
		if fault.CodeOf(err) != fault.NotFound {
			return user, err
		}
		user = User{ID: id, Login: login, At: at}
		if user.Name, err = u.freeName(ctx, name); err != nil {
			return User{}, err
		}
		counter, err := u.nextUID(ctx, &user)
		if err != nil {
			return User{}, err
		}
		err = u.table.Transact(ctx, "make an account", []table.Operation{
			counter,
			{Kind: table.Insert, Row: encodeUser(userKey(id), user)},
			{Kind: table.Insert, Row: encodeUser(nameKey(user.Name), user)},
			{Kind: table.Insert, Row: encodeUser(uidKey(user.UID), user)},
		})
		switch fault.CodeOf(err) {
		case "":
			return user, nil
		case fault.Conflict, fault.NotFound: // somebody was first, perhaps this call itself, whose answer was lost
		default:
			return User{}, err
		}
		pause := backoff.After(round+1, 2*time.Millisecond, 100*time.Millisecond)
		select {
		case <-ctx.Done():
			return User{}, ctx.Err()
		case <-time.After(rand.N(pause + 1)): //nolint:gosec // only to come apart
		}
	}
	return User{}, fault.New(fault.Throttled, "", "too many people get their first account now; try again")
}

// freeName finds the first name that nobody has.
func (u *Users) freeName(ctx context.Context, name func(n int) string) (string, error) {
	for n := 1; n <= nameTries; n++ {
		candidate := name(n)
		if candidate == "" {
			continue
		}
		_, _, err := u.table.Get(ctx, "look for a free name", userPartition, nameKey(candidate))
		switch fault.CodeOf(err) {
		case "":
		case fault.NotFound:
			return candidate, nil
		default:
			return "", err
		}
	}
	return "", fault.New(fault.Conflict, "", "no name is free for this person; ask an operator of the deployment")
}

// nextUID gives an account the next uid, and returns how the counter goes on. A counter that
// was restored from an old copy, or is lost, finds the uids that were given.
func (u *Users) nextUID(ctx context.Context, user *User) (table.Operation, error) {
	var row struct{ Next int }
	raw, etag, err := u.table.Get(ctx, "read the next uid", userPartition, counterKey)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
	case err != nil:
		return table.Operation{}, err
	default:
		if err := table.Decode(raw, &row); err != nil {
			return table.Operation{}, err
		}
	}
	user.UID = max(row.Next, firstUID)
	for {
		_, _, taken := u.table.Get(ctx, "look for a free uid", userPartition, uidKey(user.UID))
		if fault.CodeOf(taken) == fault.NotFound {
			break
		}
		if taken != nil {
			return table.Operation{}, taken
		}
		user.UID++
	}
	e := table.NewRow(userPartition, counterKey)
	e.Int("Next", user.UID+1)
	if err != nil {
		return table.Operation{Kind: table.Insert, Row: e.JSON()}, nil
	}
	return table.Operation{Kind: table.Replace, Row: e.JSON(), Match: etag}, nil
}
