"""What tests share: a site with real servers, processes, proxies, subscribers, and polling."""
