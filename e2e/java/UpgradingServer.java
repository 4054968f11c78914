import io.undertow.Undertow;
import io.undertow.UndertowOptions;

/** An application on Undertow that takes upgrades to HTTP/2, and tells whom it believes a request to be from. */
public class UpgradingServer {
    public static void main(String[] args) {
        Undertow.builder()
                .setServerOption(UndertowOptions.ENABLE_HTTP2, true)
                .addHttpListener(Integer.parseInt(args[0]), "127.0.0.1")
                .setHandler(exchange -> {
                    String user = exchange.getRequestHeaders().getFirst("X-User");
                    exchange.getResponseSender().send(exchange.getProtocol() + " " + exchange.getRequestPath() + " as \"" + (user == null ? "" : user) + "\"");
                })
                .build().start();
    }
}
