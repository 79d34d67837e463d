"""Redis itself as `taskqueue_redis_*`: INFO and the log of slow commands, in one pipeline per scrape."""

from exporter.collectors.redis_info.collector import RedisInfo, RedisInfoOptions

__all__ = ["RedisInfo", "RedisInfoOptions"]
