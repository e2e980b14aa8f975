// A message router that asks Gate before it delivers: reads lines `from to text`, and prints what it does with each.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

// verdicts asks in one round trip for all messages. Where Gate gave no verdict, "".
func verdicts(messages [][]string) []string {
	words := make([]string, len(messages))
	gate, err := redis.Dial("tcp", "127.0.0.1:"+os.Getenv("GATE_PORT"),
		redis.DialUsername(os.Getenv("GATE_APP")), redis.DialPassword(os.Getenv("GATE_SECRET")),
		redis.DialConnectTimeout(time.Second), redis.DialReadTimeout(time.Second))
	if err != nil {
		return words
	}
	defer gate.Close()
	for _, message := range messages {
		gate.Send("GATE.VERDICT", message[0], message[1])
	}
	if gate.Flush() != nil {
		return words
	}
	for index := range words {
		// An error reply, such as STALE, leaves "".
		words[index], _ = redis.String(gate.Receive())
	}
	return words
}

func main() {
	var messages [][]string
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		messages = append(messages, strings.SplitN(lines.Text(), " ", 3))
	}
	for index, word := range verdicts(messages) {
		sender, recipient := messages[index][0], messages[index][1]
		switch word {
		case "allowed":
			fmt.Println("deliver", sender, recipient)
		case "": // ask again later: nothing is known
			fmt.Println("hold", sender, recipient)
		default:
			fmt.Println("refuse", sender, recipient, word)
		}
	}
}
