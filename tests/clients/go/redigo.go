// redigo. Usage: redigo PORT KEY SECRET
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/gomodule/redigo/redis"
)

func main() {
	port, key, secret := os.Args[1], os.Args[2], os.Args[3]
	gate, err := redis.Dial("tcp", "127.0.0.1:"+port, redis.DialUsername(key), redis.DialPassword(secret))
	fail(err)
	defer gate.Close()
	alice, err := redis.Int(gate.Do("GATE.CHECK", "alice", "bob"))
	fail(err)
	mallory, err := redis.Int(gate.Do("GATE.CHECK", "mallory", "bob"))
	fail(err)
	fmt.Println("check", alice, mallory)

	for index := 0; index < 100; index++ {
		fail(gate.Send("GATE.CHECK", []string{"alice", "mallory"}[index%2], "bob"))
	}
	fail(gate.Flush())
	fmt.Print("pipeline")
	for index := 0; index < 100; index++ {
		may, err := redis.Int(gate.Receive())
		fail(err)
		fmt.Print(" ", may)
	}
	fmt.Println()

	fail(gate.Send("MULTI"))
	fail(gate.Send("GATE.CHECK", "alice", "bob"))
	fail(gate.Send("GATE.CHECK", "mallory", "bob"))
	fail(gate.Send("GATE.VERDICT", "mallory", "bob"))
	answers, err := redis.Values(gate.Do("EXEC"))
	fail(err)
	fmt.Printf("transaction %d %d %s\n", answers...)
}

func fail(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
