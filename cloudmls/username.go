package cloudmls

// Username is the name the user signs in with, as the key server compares it.
func (c *Client) Username() string { return c.store.Username() }
