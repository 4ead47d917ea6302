// Java's java.net.http, which offers HTTP/2 by `Upgrade: h2c`.
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;

class Client {
    static final HttpClient CLIENT = HttpClient.newHttpClient();

    static HttpRequest.Builder to(String base, String path) {
        return HttpRequest.newBuilder(URI.create(base + path)).timeout(Duration.ofSeconds(30));
    }

    static void ensure(boolean holds, Object found) {
        if (!holds) throw new IllegalStateException(String.valueOf(found));
    }

    public static void main(String[] arguments) throws Exception {
        String base = arguments[0];
        var asked = IntStream.range(0, 100).mapToObj(n ->
            CLIENT.sendAsync(to(base, "/asset/" + n).build(), BodyHandlers.ofString())).toList();
        for (int n = 0; n < asked.size(); n++) {
            HttpResponse<String> answer = asked.get(n).get();
            ensure(answer.version() == HttpClient.Version.HTTP_1_1, answer);
            ensure(answer.body().equals(String.valueOf(n).repeat(5000)), answer.body());
        }
        byte[] data = new byte[2_000_000];
        for (boolean expect : List.of(false, true)) {
            for (var body : List.of(BodyPublishers.ofByteArray(data),
                    BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(data)))) {
                var request = to(base, "/echo").expectContinue(expect).POST(body).build();
                String told = CLIENT.send(request, BodyHandlers.ofString()).body();
                ensure(told.contains("\"length\": 2000000"), told);
            }
        }
    }
}
