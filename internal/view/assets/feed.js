// Receives the events of the server, and reconnects whenever they stop.

// A connection without any event for silence milliseconds is given up; the server sends a heartbeat every 5 s.
const silence = 12_000;
const firstDelay = 300, lastDelay = 5_000;

export class Feed {
  // handlers are state(state), rows(rows) and connection(connected).
  constructor(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    this.last = '';
    this.delay = firstDelay;
    this.connect();
    // A laptop that wakes up, or a network that is back, is a reason to try at once.
    addEventListener('online', () => this.retryNow());
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.retryNow(); });
    setInterval(() => { if (this.source && Date.now() - this.heard > silence) this.retry(); }, 1_000);
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.heard = Date.now();
    // A new EventSource does not send Last-Event-ID, and the one that a browser reconnects by itself gives up for good
    // when the server answers with an error.
    this.source = new EventSource(this.last ? `${this.url}?after=${encodeURIComponent(this.last)}` : this.url);
    const listen = (kind, handle) => this.source.addEventListener(kind, event => {
      this.heard = Date.now();
      this.delay = firstDelay;
      this.handlers.connection(true);
      if (event.lastEventId) this.last = event.lastEventId;
      handle(event.data);
    });
    listen('state', data => this.handlers.state(JSON.parse(data)));
    listen('rows', data => this.handlers.rows(JSON.parse(data)));
    listen('heartbeat', () => {});
    this.source.onerror = () => this.retry();
  }

  // retry reconnects after a delay that doubles with each failure.
  retry() {
    this.source?.close();
    this.source = null;
    this.handlers.connection(false);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), this.delay * (0.5 + Math.random() / 2));
    this.delay = Math.min(this.delay * 2, lastDelay);
  }

  retryNow() {
    if (this.timer) this.connect();
    else if (this.source && Date.now() - this.heard > silence) this.retry();
  }

  // reset makes the next connection ask for all rows.
  reset() { this.last = ''; }
}
