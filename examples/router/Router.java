// A message router that asks Gate before it delivers: reads lines `from to text`, and prints what it does with each.
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

public class Router {
    static final HttpClient HTTP = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(1)).build();
    // Enough for words and plain ids. Use your JSON library.
    static final Pattern WORD = Pattern.compile("\"([a-z]+(?:-[a-z]+)*)\"");

    /** One request for all messages. Where Gate gave no verdicts, an empty list. */
    static List<String> verdicts(List<String[]> messages) throws InterruptedException {
        String pairs = messages.stream()
            .map(message -> "[\"" + message[0] + "\",\"" + message[1] + "\"]")
            .collect(Collectors.joining(","));
        String credentials = System.getenv("GATE_APP") + ":" + System.getenv("GATE_SECRET");
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("GATE_HTTP") + "/v1/check"))
            .timeout(Duration.ofSeconds(1))
            .header("Authorization", "Basic " + Base64.getEncoder().encodeToString(credentials.getBytes(StandardCharsets.UTF_8)))
            .POST(HttpRequest.BodyPublishers.ofString("{\"pairs\":[" + pairs + "]}"))
            .build();
        try {
            HttpResponse<String> answer = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() != 200) return List.of();
            String list = answer.body().replaceFirst(".*\"verdicts\":\\[", "").replaceFirst("\\].*", "");
            return WORD.matcher(list).results().map((MatchResult word) -> word.group(1)).toList();
        } catch (IOException away) {
            return List.of();
        }
    }

    public static void main(String[] arguments) throws Exception {
        String input = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        List<String[]> messages = input.lines().map(line -> line.split(" ", 3)).toList();
        List<String> words = verdicts(messages);
        for (int index = 0; index < messages.size(); index++) {
            String pair = messages.get(index)[0] + " " + messages.get(index)[1];
            if (words.isEmpty()) System.out.println("hold " + pair); // ask again later: nothing is known
            else if (words.get(index).equals("allowed")) System.out.println("deliver " + pair);
            else System.out.println("refuse " + pair + " " + words.get(index));
        }
    }
}
